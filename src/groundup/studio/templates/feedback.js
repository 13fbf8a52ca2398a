"use strict";
// Shows one question after the other, and sends what is said of its answers until the server has it.
(() => {
  const get = (id) => document.getElementById(id);
  const rates = JSON.parse(get("ask").textContent) === "rating";
  const session = JSON.parse(get("session").textContent);
  const [form, wait, sheet, foot, said, editing, keys] = ["name", "wait", "question", "foot", "said", "editing", "keys"].map(get);
  let rater = localStorage.getItem("rater") || "";
  let question = null; // what is shown; null: nothing can be judged now
  let progress = { done: 0, total: 0, last: null };
  let shownAt = 0;
  let ratings = {}; // by the number of the answer
  let framed = 0; // the place of the answer that a key rates
  let edited = 0; // the place of the answer that is being edited
  let asksWhich = false; // E was pressed: the next digit names the answer to edit
  let busy = false; // something is being sent
  let timer = 0;

  const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

  // A message that follows the language; `wrong` for what did not go as it should.
  function tell(element, word, values = {}, wrong = false) {
    element.dataset.word = word;
    element.dataset.values = JSON.stringify(values);
    element.classList.toggle("wrong", wrong);
    element.textContent = words.say(word, values);
  }

  function hush(element) {
    delete element.dataset.word;
    element.textContent = "";
  }

  // The server's reply; asks again as long as there is none. No reply ever where it asks another file's questions.
  async function ask(path, body) {
    const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
    for (;;) {
      let error = "";
      try {
        const response = await fetch(`${path}${path.includes("?") ? "&" : "?"}session=${session}`, { cache: "no-store", ...options });
        const value = await response.json();
        if (response.status === 409 && value.detail) return end();
        if (response.status < 500) return { ok: response.ok, value };
        error = value.error;
      } catch { /* no server, or half a reply */ }
      tell(said, error ? "failing" : "retrying", { error }, true);
      foot.hidden = false;
      await pause(1000);
    }
  }

  function end() {
    editing.close();
    question = null;
    hush(said);
    if (sessionStorage.getItem("pending")) tell(said, "lost", {}, true);
    tell(wait, "other_session", {}, true);
    only(wait);
    return new Promise(() => {});
  }

  function only(element) {
    for (const each of [form, wait, sheet]) each.hidden = each !== element;
    foot.hidden = element === form;
    get("progress").hidden = element === form;
  }

  function showProgress() {
    const bar = get("progress").querySelector("progress");
    bar.max = progress.total || 1;
    bar.value = progress.done;
    tell(get("count"), "progress", progress);
    tell(get("who"), "rater", { rater });
    get("undo").hidden = !progress.last;
  }

  async function next() {
    clearTimeout(timer);
    const { ok, value } = await ask(`api/next?rater=${encodeURIComponent(rater)}`);
    if (!ok) return askName();
    const { question: found, state, ...rest } = value;
    progress = rest;
    question = found || null;
    showProgress();
    if (question) return showQuestion();
    tell(wait, state === "done" ? "done_lead" : state, progress, state === "failed");
    if (state === "done") {
      wait.replaceChildren(words.element("strong", "", "done_title"), document.createElement("br"), words.element("span", "", "done_lead", progress));
      delete wait.dataset.word;
      words.fill(wait);
    }
    only(wait);
    if (state === "done") showEverybody();
    else timer = setTimeout(next, 1000);
  }

  function showQuestion() {
    get("prompt").replaceChildren(...question.messages.map(message));
    get("answers").replaceChildren(...question.answers.map(card));
    ratings = {};
    asksWhich = false;
    frame(0);
    words.fill(sheet);
    only(sheet);
    window.scrollTo(0, 0);
    get("prompt").scrollTop = get("prompt").scrollHeight;
    get("main").focus({ preventScroll: true });
    shownAt = performance.now();
  }

  function text(content) {
    const element = words.element("p", "text");
    element.dir = "auto";
    element.textContent = content;
    return element;
  }

  function message({ role, content }) {
    const element = words.element("div", "message");
    element.append(words.element("div", "role", `role_${role}`), text(content));
    return element;
  }

  function button(className, word, label, values, key, action) {
    const element = words.element("button", className);
    element.type = "button";
    element.dataset.label = label;
    element.dataset.values = JSON.stringify(values);
    if (word) element.append(words.element("span", "", word));
    if (key) {
      element.append(words.element("kbd", word ? "hint" : ""));
      element.lastChild.textContent = key;
    }
    element.addEventListener("click", action);
    return element;
  }

  function card({ text: content }, place) {
    const element = words.element("section", "answer");
    const values = { place: place + 1 };
    element.dataset.label = "answer";
    element.dataset.values = JSON.stringify(values);
    const row = words.element("div", "row");
    if (rates) row.append(stars(place));
    else row.append(button("main", "choose", "choose_label", values, place + 1, () => choose(place)));
    row.append(button("plain end", "edit", "edit_label", values, "", () => edit(place)));
    element.append(words.element("h2", "small", "answer", values), text(content), row);
    return element;
  }

  function stars(place) {
    const group = words.element("div", "row stars");
    group.setAttribute("role", "group");
    group.dataset.label = "ratings";
    group.dataset.values = JSON.stringify({ place: place + 1 });
    for (const star of [1, 2, 3, 4, 5]) {
      const element = button("", "", "rate", { place: place + 1, stars: star }, "", () => rate(place, star));
      element.textContent = star;
      element.setAttribute("aria-pressed", "false");
      group.append(element);
    }
    group.append(words.element("span", "quiet", "rate_scale"));
    return group;
  }

  function frame(place) {
    framed = place;
    if (rates) [...get("answers").children].forEach((element, number) => element.classList.toggle("chosen", number === place));
  }

  // Sends a judgement. It is kept until the server has acknowledged it, also over a reload of the page.
  async function judge(parts) {
    if (!question) return;
    const judgement = {
      id: uniqueName(), rater, question: question.number, shown: question.answers.map((answer) => answer.number),
      milliseconds: Math.round(performance.now() - shownAt), ...parts,
    };
    sessionStorage.setItem("pending", JSON.stringify({ session, judgement }));
    await alone(() => send(judgement));
  }

  // Does one thing at a time with the server, and shows what comes then.
  async function alone(action) {
    if (busy) return;
    busy = true;
    question = null;
    await action();
    await next();
    busy = false;
  }

  async function send(judgement) {
    const { ok, value } = await ask("api/judgements", judgement);
    sessionStorage.removeItem("pending");
    if (ok) tell(said, "saved");
    else tell(said, "refused", { error: value.error || JSON.stringify(value.detail) }, true);
  }

  function choose(place) {
    if (!question || place >= question.answers.length) return;
    get("answers").children[place].classList.add("chosen");
    judge({ verdict: "better", answer: question.answers[place].number });
  }

  function rate(place, star) {
    if (!question) return;
    ratings[question.answers[place].number] = star;
    const buttons = get("answers").children[place].querySelectorAll(".stars button");
    buttons.forEach((element, number) => element.setAttribute("aria-pressed", String(number + 1 === star)));
    const open = question.answers.findIndex((answer) => !(answer.number in ratings));
    if (open >= 0) return frame(open);
    judge({ verdict: "ratings", ratings: question.answers.map((_, number) => ratings[number]) });
  }

  function edit(place) {
    asksWhich = false;
    if (!question || place >= question.answers.length) return;
    edited = place;
    hush(said);
    hush(get("edit-wrong"));
    tell(get("editing-title"), "edit_text", { place: place + 1 });
    get("edited").value = question.answers[place].text;
    editing.showModal();
    get("edited").focus();
  }

  function saveEdit() {
    const answer = question.answers[edited];
    const content = get("edited").value.trim();
    if (!content) return tell(get("edit-wrong"), "edit_empty", {}, true);
    if (content === answer.text.trim()) return tell(get("edit-wrong"), "edit_same", {}, true);
    editing.close();
    judge({ verdict: "edit", answer: answer.number, text: content });
  }

  async function undo() {
    if (!progress.last) return tell(said, "nothing_to_undo");
    await alone(async () => {
      await ask("api/undo", { rater, judgement: progress.last });
      tell(said, "undone");
    });
  }

  async function showEverybody() {
    if (!get("all").open) return;
    const { value } = await ask("api/summary");
    const cell = (tag, content, className = "") => {
      const element = words.element(tag, className);
      element.textContent = content;
      if (tag === "th") element.scope = "row";
      return element;
    };
    get("all").querySelector("tbody").replaceChildren(...value.raters.map((each) => {
      const row = document.createElement("tr");
      const seconds = words.say("seconds", { seconds: each.median_seconds.toFixed(1) });
      row.append(cell("th", each.rater), cell("td", `${each.judged} / ${progress.total}`, "n"), cell("td", seconds, "n"));
      return row;
    }));
    const { raw_agreement: raw, krippendorff_alpha: alpha } = value.agreement[rates ? "ratings" : "choices"];
    if (raw === null) tell(get("agreement"), "no_agreement");
    else tell(get("agreement"), "agreement", { share: `${Math.round(100 * raw)} %`, alpha: alpha === null ? "–" : alpha.toFixed(2) });
  }

  function askName() {
    only(form);
    get("rater").value = rater;
    get("rater").focus();
  }

  // What this tab could not send before it was loaded again; of another file's questions, it is kept for them.
  async function sendPending() {
    const pending = JSON.parse(sessionStorage.getItem("pending"));
    if (!pending) return;
    if (pending.session === session) return send(pending.judgement);
    tell(said, "lost", {}, true);
  }

  async function start() {
    if (!rater) return askName();
    tell(wait, "loading");
    only(wait);
    await sendPending();
    await next();
  }

  function press(event) {
    const { key, target } = event;
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || editing.open || target.matches("input, textarea")) return;
    if (key === "?") return keys.open ? keys.close() : keys.showModal();
    if (keys.open || foot.hidden) return;
    const number = Number(key) - 1;
    const arrow = { ArrowLeft: 0, ArrowRight: (question?.answers.length ?? 0) - 1 }[key];
    if (key === "Escape") { asksWhich = false; hush(said); }
    else if (key.toLowerCase() === "u") undo();
    else if (!question) return;
    else if (asksWhich && /^[1-9]$/.test(key)) edit(number);
    else if (key.toLowerCase() === "e") askWhich(target.closest(".answer"));
    else if (rates && /^[1-5]$/.test(key)) rate(framed, number + 1);
    else if (rates && arrow !== undefined) frame(Math.min(Math.max(framed + (arrow ? 1 : -1), 0), question.answers.length - 1));
    else if (!rates && /^[1-9]$/.test(key)) choose(number);
    else if (!rates && arrow !== undefined) choose(arrow);
    else if (!rates && key === "0") judge({ verdict: "tie" });
    else if (!rates && key.toLowerCase() === "b") judge({ verdict: "bad" });
    else return;
    event.preventDefault();
  }

  function askWhich(focused) {
    if (focused) return edit([...get("answers").children].indexOf(focused));
    if (rates) return edit(framed);
    asksWhich = true;
    tell(said, "edit_which");
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    rater = get("rater").value.trim();
    if (!rater) return;
    localStorage.setItem("rater", rater);
    hush(said);
    start();
  });
  get("tie")?.addEventListener("click", () => judge({ verdict: "tie" }));
  get("bad")?.addEventListener("click", () => judge({ verdict: "bad" }));
  get("undo").addEventListener("click", undo);
  get("rename").addEventListener("click", () => { clearTimeout(timer); question = null; askName(); });
  get("help").addEventListener("click", () => keys.showModal());
  get("edit-save").addEventListener("click", saveEdit);
  get("edit-cancel").addEventListener("click", () => editing.close());
  get("edited").addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) saveEdit(); });
  get("all").addEventListener("toggle", showEverybody);
  document.addEventListener("keydown", press);
  words.onChange(showEverybody);
  start();
})();
