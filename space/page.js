// What Gradio's slider and examples lack: alternative texts, names, and the arrow keys.
function nameAll() {
  const [before, after] = document.querySelectorAll('#slider img[data-testid="imageslider-image"]');
  if (after) {
    before.alt = "The picture before";
    after.alt = "The picture after, enhanced";
  }
  document.querySelectorAll("#examples button.gallery-item").forEach((button, index) => {
    button.setAttribute("aria-label", `Example ${index + 1}`);
  });
  const handle = document.querySelector('#slider [data-testid="slider"]');
  if (handle && !handle.hasAttribute("tabindex")) makeSlider(handle);
}

function makeSlider(handle) {
  const attributes = { tabindex: 0, role: "slider", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": 50 };
  attributes["aria-label"] = "Divider between before and after";
  Object.entries(attributes).forEach(([name, value]) => handle.setAttribute(name, value));
  handle.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.05, ArrowRight: 0.05 }[event.key];
    if (!step) return;
    event.preventDefault();
    const area = handle.parentElement.getBoundingClientRect();
    const at = handle.getBoundingClientRect();
    const x = at.left + at.width / 2;
    const y = at.top + at.height / 2;
    drag(handle, x, x + step * area.width, y); // the slider knows the mouse only
    const now = handle.getBoundingClientRect();
    handle.setAttribute("aria-valuenow", Math.round((100 * (now.left + now.width / 2 - area.left)) / area.width));
  });
}

function drag(element, from, to, y) {
  const fire = (target, type, x) =>
    target.dispatchEvent(
      new MouseEvent(type, { bubbles: true, cancelable: true, view: window, clientX: x, clientY: y }),
    );
  fire(element, "mousedown", from);
  fire(window, "mousemove", to);
  fire(window, "mouseup", to);
}

new MutationObserver(nameAll).observe(document.body, { childList: true, subtree: true });
