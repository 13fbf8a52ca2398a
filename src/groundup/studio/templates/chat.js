"use strict";
// A conversation, kept in this tab; answers come as lines of JSON while the model writes them.
(() => {
  const get = (id) => document.getElementById(id);
  const [settings, list, box, said] = ["settings", "messages", "message", "said"].map(get);
  const given = JSON.parse(get("given").textContent);
  const numbers = ["temperature", "top_k", "top_p", "max_tokens", "seed"];
  let messages = [];
  let conversation = uniqueName();
  let running = null; // what stops the answer that is being written

  function tell(element, word, values = {}, wrong = false) {
    element.dataset.word = word;
    element.dataset.values = JSON.stringify(values);
    element.classList.toggle("wrong", wrong);
    element.textContent = words.say(word, values);
  }

  function hush() {
    delete said.dataset.word;
    said.textContent = "";
  }

  function add(role, content) {
    const item = words.element("li", role);
    const text = words.element("p", "text");
    text.dir = "auto";
    text.textContent = content;
    item.append(words.element("div", "role", `role_${role}`), text);
    words.fill(item);
    list.append(item);
    get("empty").hidden = true;
    return item;
  }

  function note(item, word, values) {
    const element = words.element("p", "note");
    tell(element, word, values);
    item.append(element);
  }

  function showState() {
    get("stop").hidden = !running;
    get("send").disabled = Boolean(running);
    get("again").hidden = Boolean(running) || messages.at(-1)?.role !== "assistant";
    get("empty").hidden = list.children.length > 0;
  }

  const isNearEnd = () => window.innerHeight + window.scrollY > document.documentElement.scrollHeight - 80;
  const scrollToEnd = () => window.scrollTo(0, document.documentElement.scrollHeight);

  // The reply's lines as objects.
  async function* lines(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      yield* parts.map(JSON.parse);
    }
  }

  // Asks for the answer to the last message, of which the seed grows with the turn, so that no two are alike.
  async function request(signal) {
    const system = settings.elements.system.value.trim();
    const body = { conversation, messages: system ? [{ role: "system", content: system }, ...messages] : messages };
    for (const name of numbers) body[name] = settings.elements[name].valueAsNumber;
    body.seed += messages.length - 1;
    const response = await fetch("api/answer", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal,
    });
    if (response.ok) return response;
    const { error, detail } = await response.json();
    throw new RangeError(error || JSON.stringify(detail));
  }

  async function answer() {
    running = new AbortController();
    const mine = running;
    const item = add("assistant", "");
    const text = item.querySelector(".text");
    let [written, drawing, end] = ["", 0, "stopped"];
    // Once a frame at most, however fast the model is.
    const draw = () => {
      const follow = isNearEnd();
      drawing = 0;
      text.textContent = written;
      if (follow) scrollToEnd();
    };
    item.classList.add("writing");
    tell(said, "writing");
    showState();
    scrollToEnd();
    try {
      for await (const line of lines(await request(mine.signal))) {
        if (mine !== running) return; // a new chat has begun
        if (line.left_out) note(item, "left_out", { count: line.left_out });
        if (line.end) end = line.end;
        written += line.piece || "";
        drawing ||= requestAnimationFrame(draw);
      }
      if (end === "stopped") throw new TypeError("the reply has no end");
      tell(said, "finished");
    } catch (error) {
      if (mine !== running) return;
      if (error.name === "AbortError") tell(said, "stopped");
      else if (error instanceof RangeError) tell(said, "wrong", { error: error.message }, true);
      else tell(said, "lost", {}, true);
    }
    cancelAnimationFrame(drawing);
    draw();
    if (end === "cut off") note(item, "cut", {});
    running = null;
    item.classList.remove("writing");
    if (written) messages.push({ role: "assistant", content: written });
    else takeBack(item);
    showState();
  }

  // Nothing was answered: the question goes back to where it was written.
  function takeBack(item) {
    const asked = messages.pop();
    if (!box.value) box.value = asked.content;
    item.previousElementSibling.remove();
    item.remove();
  }

  function send() {
    const content = box.value.trim();
    if (!content || running) return;
    if (!settings.reportValidity()) return openSettings(true);
    box.value = "";
    messages.push({ role: "user", content });
    add("user", content);
    answer();
  }

  function again() {
    if (running || !settings.reportValidity()) return;
    messages.pop();
    list.lastElementChild.remove();
    settings.elements.seed.value = settings.elements.seed.valueAsNumber + 1;
    answer();
  }

  function startNew() {
    running?.abort();
    running = null;
    messages = [];
    conversation = uniqueName();
    list.replaceChildren();
    hush();
    showState();
    box.focus();
  }

  function openSettings(open) {
    settings.hidden = !open;
    get("settings-button").setAttribute("aria-expanded", String(open));
  }

  for (const [name, value] of Object.entries(given)) settings.elements[name].value = value;
  settings.addEventListener("submit", (event) => event.preventDefault());
  get("settings-button").addEventListener("click", () => openSettings(settings.hidden));
  get("new").addEventListener("click", startNew);
  get("stop").addEventListener("click", () => running?.abort());
  get("again").addEventListener("click", again);
  get("compose").addEventListener("submit", (event) => { event.preventDefault(); send(); });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") running?.abort(); });
  showState();
})();
