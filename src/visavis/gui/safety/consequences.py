"""What cannot be taken back, by the words for it: buying, paying, deleting, sending, in the languages models think in.

A model that does not say what it clicks is not found out by words: this is the belt beside the wall, which is the
list of origins. It errs towards asking.
"""

import re
import unicodedata

__all__ = ["BEGINNINGS", "PARTS", "consequence"]

# Beginnings of words ("_": the whole word; ".": a space). A line each: English, German, French, Spanish and Portuguese,
# Italian, Dutch, Polish, Turkish, Russian, Vietnamese.
BEGINNINGS = {
    "buy or pay": """
        buy purchas pay_ pays_ paying payment payable checkout order place.the.order subscrib donat
        kauf einkauf jetzt.kauf bezahl zahlung zahlungspflichtig bestell abonnier spende überweis ueberweis
        achet achèt payer payez commander commandez commande_ virement abonner
        comprar compra_ compre_ comprando pagar pague_ pago_ pagamento pedido_ suscrib
        acquist compra pagare paga_ ordinare ordina_ bonifico
        kopen koop_ betaal betalen bestel
        kup_ kupić kupuj kupno zapłać zapłac zamów
        satın öde_ ödeme sipariş
        купи покуп оплат заказ закаж платеж платёж перевод.денег перевести.деньги
        mua_ thanh.toán đặt.hàng
    """,
    "delete": """
        delet remov erase erasing wipe_ wiping uninstall destroy discard terminat deactivat empty.the.trash
        lösch loesch entfern deinstall vernicht verwerf
        supprim effac retirer désinstall
        elimin borrar borra_ borre_ suprim quitar_ excluir apagar_
        cancella rimuov disinstall
        verwijder wissen_
        usuń usunąć usun_ skasuj
        sil_ silmek silin kaldır
        удал стереть сотри очисти
        xóa xoá
    """,
    "send": """
        send sending sends_ sent_ publish transmit transfer forward.the forward.this
        sende absend abschick verschick veröffentlich veroeffentlich
        envoy envoie publier publiez transmet
        enviar envía_ envia_ envie_ enviando publicar
        invia_ inviare spedi pubblica trasferi
        verzend verstuur
        wyśl wysł
        gönder
        отправ посла пошли_ опубликов
        gửi
    """,
}
# Parts of a text, for scripts that write no spaces or glue articles to words. A line each: Chinese, Japanese, Korean,
# Arabic, Persian, Hindi, Thai.
PARTS = {
    "buy or pay": """
        购买 購買 支付 付款 下单 下單 结账 結帳 订购 訂購 充值 转账 轉帳 订阅
        購入 支払 注文 決済
        구매 결제 주문 송금
        شراء اشتر دفع ادفع
        خرید پرداخت
        खरीद भुगतान
        ซื้อ ชำระ
    """,
    "delete": """
        删除 刪除 移除 清空 卸载 解除安裝 注销 抹掉
        削除 消去
        삭제 제거
        حذف احذف إزالة
        پاک.کردن
        हटा मिटा
        ลบ
    """,
    "send": """
        发送 發送 发布 發佈 发表 發表 寄出
        送信 送る 投稿
        보내 전송 게시
        إرسال أرسل
        ارسال فرستا
        भेज
        ส่ง
    """,
}
HARMLESS = re.compile(r"\bin order (?:to|that|for)\b|\bsort(?:ing)? order\b|\border(?:ed)? by\b")


def consequence(text: str) -> tuple[str, str] | None:
    """What a text says is done that cannot be taken back.

    Returns:
        The consequence, a key of `BEGINNINGS`, and the word that says so; None where there is none.

    Example:
        >>> consequence("I click the red button to delete the account.")
        ('delete', 'delete')
        >>> consequence("点击“立即购买”")
        ('buy or pay', '购买')
        >>> consequence("I open the menu in order to see more.") is None
        True
    """
    plain = HARMLESS.sub(" ", _plain(text))
    for name, pattern in _PATTERNS.items():
        if found := pattern.search(plain):
            return name, found[0]
    return None


def _plain(text: str) -> str:
    """Without what tells words apart to a program but not to a reader: case, width, invisible characters."""
    visible = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", visible).casefold().split())


def _pattern(beginnings: str, parts: str) -> re.Pattern[str]:
    words = (
        _escaped(word.strip("_")) + (r"\b" if word.endswith("_") else r"\w*") for word in _plain(beginnings).split()
    )
    return re.compile(rf"\b(?:{'|'.join(words)})|" + "|".join(_escaped(part) for part in _plain(parts).split()))


def _escaped(word: str) -> str:
    return re.escape(word.replace(".", " "))


_PATTERNS = {name: _pattern(beginnings, PARTS[name]) for name, beginnings in BEGINNINGS.items()}
