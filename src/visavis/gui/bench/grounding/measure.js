// Called on an element that might be a target: what is to be known of it, null if it is none. It is one when a person who aims at any part of it hits it, and nothing else that does something.
function (selector, leastPx) {
  const EDGE_PX = 2, ROWS = [0.1, 0.3, 0.5, 0.7, 0.9], MOST = 0.8;

  // The box round all that is clickable of it: an inline element is as high as its line, what it holds may be higher.
  const bounds = element => {
    const inline = getComputedStyle(element).display === 'inline';
    if (inline && element.getClientRects().length !== 1) return null;  // a link over two lines has no box
    const parts = inline ? [element, ...element.querySelectorAll('*')] : [element];
    const rects = parts.map(part => part.getBoundingClientRect()).filter(rect => rect.width && rect.height);
    if (!rects.length) return null;
    return [
      Math.min(...rects.map(rect => rect.left)), Math.min(...rects.map(rect => rect.top)),
      Math.max(...rects.map(rect => rect.right)), Math.max(...rects.map(rect => rect.bottom)),
    ];
  };

  // Where a frame's page begins in the window, frames round it included.
  const origin = view => {
    let [x, y] = [0, 0];
    for (; view !== view.top; view = view.parent) {
      const frame = view.frameElement, rect = frame.getBoundingClientRect(), style = getComputedStyle(frame);
      x += rect.left + frame.clientLeft + parseFloat(style.paddingLeft);
      y += rect.top + frame.clientTop + parseFloat(style.paddingTop);
    }
    return [x, y];
  };

  // The element that a click at a point of the window goes to, inside of frames and shadow trees.
  const at = (x, y) => {
    let root = top.document, element = null;
    for (;;) {
      const inner = root.elementFromPoint(x, y);
      if (!inner || inner === element) return element;
      element = inner;
      if (element.shadowRoot) root = element.shadowRoot;
      else if (element.localName === 'iframe' && element.contentDocument) {
        const rect = element.getBoundingClientRect(), style = getComputedStyle(element);
        x -= rect.left + element.clientLeft + parseFloat(style.paddingLeft);
        y -= rect.top + element.clientTop + parseFloat(style.paddingTop);
        root = element.contentDocument;
      }
    }
  };

  // The innermost element round another that does something when clicked.
  const doer = element => {
    for (; element; element = element.getRootNode().host) {
      const found = element.closest(selector);
      if (found) return found;
    }
    return null;
  };

  const shown = element => {
    if (element.localName === 'select') return element.selectedOptions[0]?.text ?? '';
    if (['input', 'textarea'].includes(element.localName)) {
      const drawn = ['checkbox', 'radio', 'range', 'color', 'image', 'file'].includes(element.type);
      return drawn ? '' : element.value || element.placeholder;
    }
    // Text for screen readers alone is in a box of one pixel, text that is to appear later is transparent.
    const seen = part => {
      const rect = part.getBoundingClientRect();
      return Math.min(rect.width, rect.height) > 1 &&
        part.checkVisibility({opacityProperty: true, visibilityProperty: true});
    };
    const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    const texts = [];
    while (walker.nextNode()) if (seen(walker.currentNode.parentElement)) texts.push(walker.currentNode.data);
    return texts.join(' ');
  };

  const reachable = () => {
    try { return Boolean(top.document) } catch { return false }  // of a frame that keeps to itself
  };

  const measure = element => {
    if (!reachable() || element.querySelector(selector)) return null;  // what is in it would be hit instead
    if (!element.checkVisibility({opacityProperty: true, visibilityProperty: true})) return null;
    const box = bounds(element);
    if (!box) return null;
    const [x, y] = origin(element.ownerDocument.defaultView);
    const [left, top_, right, bottom] = [box[0] + x, box[1] + y, box[2] + x, box[3] + y];
    const [width, height] = [right - left, bottom - top_];
    if (Math.min(width, height) < leastPx) return null;
    if (left < 0 || top_ < 0 || right > top.innerWidth || bottom > top.innerHeight) return null;
    const hit = (x, y) => doer(at(x, y)) === element;
    const [across, down] = [(left + right) / 2, (top_ + bottom) / 2];
    const edges = [
      [across, down], [left + EDGE_PX, down], [right - EDGE_PX, down], [across, top_ + EDGE_PX],
      [across, bottom - EDGE_PX],
    ];
    if (!edges.every(([x, y]) => hit(x, y))) return null;
    const grid = ROWS.flatMap(row => ROWS.map(column => hit(left + column * width, top_ + row * height)));
    if (grid.filter(Boolean).length < MOST * grid.length) return null;
    return {box: [left, top_, right, bottom], shown: (shown(element) ?? '').trim()};
  };

  return measure(this);
}
