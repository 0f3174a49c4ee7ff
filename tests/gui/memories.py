"""What long-term memory is measured on: tasks done before, the screens they were done on, and tasks to recall them for.

Rewordings, other values, typing errors and word forms, for which a memory must come; tasks of the same programs and of
others, in similar words, for which none must. The thresholds were chosen on QUERIES and UNKNOWN; HELD_OUT and
UNKNOWN_HELD_OUT were written afterwards, and nothing was changed for them.
"""

import numpy as np

__all__ = ["HELD_OUT", "QUERIES", "STORED", "UNKNOWN", "UNKNOWN_HELD_OUT", "screen"]

# Name of a screen, instruction.
STORED = [
    ("shop", "Buy two pairs of blue running shoes, size 42"),
    ("shop", "Show the orders of the last month"),
    ("shop", "Change the delivery address to 5 Main Street, Springfield"),
    ("shop", "Return the last order and ask for a refund"),
    ("mail", "Send an e-mail to bob@example.org with the subject 'Meeting'"),
    ("mail", "Delete all messages from the newsletter"),
    ("mail", "Reply to the newest message from Alice with 'I agree'"),
    ("mail", "Move the message about the invoice to the folder Archive"),
    ("settings", "Switch the language of the program to Spanish"),
    ("settings", "Turn on dark mode"),
    ("settings", "Change the password from old1 to new2"),
    ("settings", "Log in as ada with password x1 and open Settings"),
    ("editor", "Open the file notes.txt and replace 'cat' by 'dog' everywhere"),
    ("editor", "Save the document as report.pdf on the desktop"),
    ("editor", "Make the first heading bold and centre it"),
    ("calendar", "Create an event 'Dentist' on May 3 at 14:00"),
    ("calendar", "Invite Carol to the meeting on Friday"),
    ("calendar", "Show the week view and go to next week"),
    ("files", "Rename the folder Photos to Pictures"),
    ("files", "Sort the files by size and delete the largest one"),
    ("flights", "Book the cheapest flight from Berlin to Rome on 12 June"),
    ("flights", "Check in for the flight LH123 and choose a window seat"),
    ("bank", "Transfer 50 euros to John Smith"),
    ("bank", "Download the account statement of March as PDF"),
    ("shop", "在商店里搜索红色连衣裙并加入购物车"),
    ("settings", "把系统语言改成中文"),
    ("mail", "给张伟发一封邮件，主题是会议通知"),
    ("settings", "Stelle die Sprache auf Deutsch um"),
    ("files", "Lösche alle Dateien im Ordner Downloads"),
]

# Index of what must come first, screen, instruction.
QUERIES = [
    (0, "shop", "Buy one pair of red running shoes in size 39"),
    (0, "shop", "buy 3 pairs of black runing shoes"),
    (1, "shop", "Show me last month's orders"),
    (2, "shop", "Change my delivery address to 12 Oak Avenue, Portland"),
    (2, "shop", "Please change the address for delivery"),
    (3, "shop", "Return my last order, asking for the refund"),
    (4, "mail", "Send an email to eve@example.com, subject 'Holiday plans'"),
    (4, "mail", "Send Bob an e-mail with the subject 'Lunch'"),
    (5, "mail", "Delete every message from the newsletters"),
    (6, "mail", "Reply to the newest message from Bob with 'No, thanks'"),
    (7, "mail", "Move the message about the contract to the folder Work"),
    (8, "settings", "Switch the program's language to French"),
    (9, "settings", "Turn dark mode on"),
    (10, "settings", "Change password from abc to def"),
    (11, "settings", "Log in as bob with password qwerty and open the Settings"),
    (12, "editor", "Open todo.txt and replace 'red' by 'green' everywhere in the file"),
    (13, "editor", "Save this document as thesis.pdf in the folder Documents"),
    (14, "editor", "Make the second heading bold and centred"),
    (15, "calendar", "Create the event 'Hairdresser' on June 17 at 9:30"),
    (16, "calendar", "Invite Dave to Monday's meeting"),
    (17, "calendar", "Go to the week view and show next week"),
    (18, "files", "Rename folder Music to Songs"),
    (19, "files", "Sort files by size, then delete the largest"),
    (20, "flights", "Book the cheapest flight from Paris to Oslo on 3 July"),
    (21, "flights", "Check in for flight BA9 and choose an aisle seat"),
    (22, "bank", "Transfer 120 dollars to Jane Doe"),
    (23, "bank", "Download April's account statement as a PDF"),
    (24, "shop", "在商店里搜索蓝色衬衫，然后加入购物车"),
    (25, "settings", "把系统语言改为英文"),
    (26, "mail", "给李娜发邮件，主题是周末计划"),
    (27, "settings", "Stell die Sprache auf Englisch um"),
    (28, "files", "Lösch alle Dateien aus dem Ordner Papierkorb"),
]

# Screen, instruction: nothing stored helps.
UNKNOWN = [
    ("shop", "Write a review of the blue jacket with five stars"),
    ("shop", "Compare the two cheapest laptops"),
    ("mail", "Add a signature with my phone number"),
    ("mail", "Create a filter for messages with attachments"),
    ("settings", "Connect to the wireless network Office"),
    ("settings", "Set the volume to 30 percent"),
    ("editor", "Insert a table with three rows and two columns"),
    ("editor", "Count the words of the second chapter"),
    ("calendar", "Print the month of August"),
    ("files", "Compress the selected items into an archive"),
    ("flights", "Find a hotel near the airport for two nights"),
    ("bank", "Block my credit card"),
    ("game", "Start a new game and move the king's pawn"),
    ("game", "Play the next song of the list"),
    ("map", "Find the way on foot from the station to the museum"),
    ("map", "What is the weather in Tokyo tomorrow?"),
    ("shop", "查看我的优惠券"),
    ("settings", "连接蓝牙耳机"),
    ("settings", "Schalte den Bildschirm nach fünf Minuten aus"),
]

HELD_OUT = [
    (0, "shop", "I want to buy two pairs of white running shoes, size 44"),
    (1, "shop", "Show the orders of this month"),
    (2, "shop", "Change the adress for delivery to 9 Elm Road"),
    (3, "shop", "Return my most recent order and request a refund"),
    (4, "mail", "Send an e-mail to the team with 'Minutes' as its subject"),
    (5, "mail", "Delete the messages of all newsletters"),
    (6, "mail", "Reply to Alice's newest message with 'See you then'"),
    (7, "mail", "Move the invoice message into the Archive folder"),
    (8, "settings", "Switch language to Italian"),
    (9, "settings", "Turn the dark mode off"),
    (10, "settings", "Change the password to something new"),
    (11, "settings", "Log in as guest with password 123456 and open Settings"),
    (12, "editor", "Open letter.txt, replace 'Mr' by 'Ms' everywhere"),
    (13, "editor", "Save the document as a PDF named invoice on the desktop"),
    (14, "editor", "Make the heading bold and centre it"),
    (15, "calendar", "Create an event called 'Lunch with Sam' on Tuesday at noon"),
    (16, "calendar", "Invite Erin and Frank to the meeting on Monday"),
    (17, "calendar", "Show the week view and go to the previous week"),
    (18, "files", "Rename the folder Documents to Papers"),
    (19, "files", "Sort the files by date and delete the oldest"),
    (20, "flights", "Book the cheapest flight from Vienna to Madrid in August"),
    (21, "flights", "Check in for my flight and choose a seat at the window"),
    (22, "bank", "Transfer 9.99 euros to the tennis club"),
    (23, "bank", "Download the statement of account of January"),
    (24, "shop", "搜索黑色外套并加入购物车"),
    (25, "settings", "请把系统的语言改成英语"),
    (26, "mail", "给王芳发一封邮件，主题是报销"),
    (27, "settings", "Sprache auf Französisch umstellen"),
    (28, "files", "Alle Dateien im Ordner Bilder löschen"),
]

UNKNOWN_HELD_OUT = [
    ("shop", "Add the red kettle to my wish list"),
    ("shop", "Contact the seller about a broken lamp"),
    ("mail", "Mark everything as read"),
    ("mail", "Attach the photo of the garden"),
    ("settings", "Install the latest update"),
    ("settings", "Pair a new keyboard"),
    ("editor", "Check the spelling of the whole text"),
    ("editor", "Print two copies on both sides"),
    ("calendar", "Set a reminder one hour before"),
    ("files", "Empty the trash"),
    ("files", "Show hidden files"),
    ("flights", "Add a suitcase of 20 kg"),
    ("bank", "Show the exchange rate of the yen"),
    ("game", "Reach level 3"),
    ("map", "Zoom in on Lake Como"),
    ("shop", "联系客服"),
    ("mail", "Antworten auf Englisch vorschlagen"),
]


def screen(name: str, seed: int = 0):
    """A window of a program: its own layout and colours; other contents with each seed. uint8 [300, 400, 3]."""
    layout = np.random.default_rng([ord(letter) for letter in name])
    content = np.random.default_rng(seed)
    pixels = np.full((300, 400, 3), layout.integers(235, 256), np.uint8)
    pixels[: layout.integers(15, 40)] = layout.integers(0, 220, 3)  # a title bar
    left = layout.integers(0, 2) * layout.integers(60, 120)
    pixels[40:, :left] = layout.integers(150, 250, 3)  # a side bar, perhaps
    for _ in range(layout.integers(3, 8)):  # buttons and panels
        x, y = layout.integers(left, 340), layout.integers(40, 260)
        pixels[y : y + layout.integers(15, 60), x : x + layout.integers(20, 120)] = layout.integers(0, 256, 3)
    for y in range(60, 280, int(layout.integers(12, 30))):  # lines of text
        for x in range(left + 10, left + 10 + int(content.integers(60, 250)), 6):
            if content.random() < 0.8:
                pixels[y : y + 7, x : x + 4] = 40
    return pixels
