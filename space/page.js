// What Gradio's slider, examples and queue lack: alternative texts, names, the arrow keys, and words.
function nameAll() {
  sayQueue();
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

// "queue: 3/4 |" becomes a sentence.
function sayQueue() {
  document.querySelectorAll(".meta-text, .meta-text-center").forEach((meta) => {
    meta.childNodes.forEach((node) => {
      const place = node.nodeType === Node.TEXT_NODE && node.data.match(/queue: (\d+)\/\d+/);
      if (!place) return;
      const before = Number(place[1]) - 1;
      const words = before === 0 ? "You are next" : before === 1 ? "1 picture before yours" : `${before} pictures before yours`;
      node.data = node.data.replace(/queue: \d+\/\d+ \|/, `${words}.`);
    });
  });
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

new MutationObserver(nameAll).observe(document.body, { childList: true, characterData: true, subtree: true });

// A face before and after at full size, with a divider.
function openPair(pair) {
  const [before, after] = pair.querySelectorAll("img");
  const dialog = document.createElement("dialog");
  dialog.className = "full-size";
  dialog.setAttribute("aria-label", pair.getAttribute("aria-label"));
  dialog.innerHTML = `<form method="dialog"><button aria-label="Close">✕</button></form>
    <div class="sides"><img><img><span>Before</span><span>After</span></div>
    <input type="range" min="0" max="100" value="50" aria-label="Divider between before and after">`;
  const [left, right] = dialog.querySelectorAll(".sides img");
  [left.src, left.alt, right.src, right.alt] = [before.src, before.alt, after.src, after.alt];
  const range = dialog.querySelector("input");
  const divide = () => (right.style.clipPath = `inset(0 0 0 ${range.value}%)`);
  range.addEventListener("input", divide);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  divide();
  document.body.append(dialog);
  dialog.showModal();
  range.focus();
}

document.addEventListener("click", (event) => {
  const pair = event.target.closest("#faces .pair");
  if (pair) openPair(pair);
});
