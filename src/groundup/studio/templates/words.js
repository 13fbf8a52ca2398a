"use strict";
// The page's words in the reader's language: the browser's at first, and what was chosen on the page from then on.
const words = (() => {
  const all = JSON.parse(document.getElementById("words").textContent);
  const changed = [];
  let language = localStorage.getItem("language") || navigator.languages.map((name) => name.slice(0, 2)).find((name) => name in all) || "en";

  // The words called `name`, with values in place of {names}.
  function say(name, values = {}) {
    return (all[language][name] ?? name).replace(/\{(\w+)\}/g, (_, key) => values[key]);
  }

  // Everything below `root` that names its words: as text, or as its accessible name.
  function fill(root) {
    const values = (element) => JSON.parse(element.dataset.values || "{}");
    for (const element of root.querySelectorAll("[data-word]")) element.textContent = say(element.dataset.word, values(element));
    for (const element of root.querySelectorAll("[data-label]")) element.setAttribute("aria-label", say(element.dataset.label, values(element)));
  }

  function show() {
    document.documentElement.lang = language === "zh" ? "zh-Hans" : language;
    document.title = say("title");
    fill(document);
    for (const listener of changed) listener();
  }

  function toggle() {
    language = language === "en" ? "zh" : "en";
    localStorage.setItem("language", language);
    show();
  }

  // An element with the class, and with words that follow the language.
  function element(tag, className, word, values) {
    const made = document.createElement(tag);
    made.className = className || "";
    if (word) made.dataset.word = word;
    if (values) made.dataset.values = JSON.stringify(values);
    return made;
  }

  document.getElementById("language").addEventListener("click", toggle);
  show();
  return { say, fill, element, language: () => language, onChange: (listener) => changed.push(listener) };
})();

// A name that nobody else has; crypto.randomUUID is only there where the page is secure.
function uniqueName() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
