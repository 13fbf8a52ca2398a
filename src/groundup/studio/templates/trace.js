"use strict";
// Plays the merges of a piece: a wall of blocks, of which those up to the chosen step stand.
(() => {
  const pieces = JSON.parse(document.getElementById("pieces").textContent);
  const stage = document.getElementById("stage");
  if (!stage) return;
  const wall = stage.querySelector(".wall");
  const said = stage.querySelector(".said");
  const slider = stage.querySelector("input");
  const buttons = Object.fromEntries([...stage.querySelectorAll("button")].map((button) => [button.dataset.action, button]));
  const tokens = [...document.querySelectorAll("button.token")];
  const pause = 900;
  let chosen = 0;
  let blocks = [];
  let timer = 0;

  function add(text, classes, row, rows, start, end) {
    const block = document.createElement("div");
    block.className = `block ${classes}`;
    block.textContent = text;
    block.style.gridArea = `${row} / ${start + 1} / ${row + rows} / ${end + 1}`;
    wall.append(block);
    return block;
  }

  // A block reaches up to the one that it becomes a part of.
  function build(piece) {
    const top = Math.max(0, ...piece.merges.map((merge) => merge.level));
    const leaves = piece.kind === "merged" ? piece.bytes.map((_, place) => ({ start: place, end: place + 1, level: 0 })) : [{ start: 0, end: piece.bytes.length, level: 0 }];
    const nodes = [...leaves.map((leaf) => ({ ...leaf, made: 0 })), ...piece.merges.map((merge, step) => ({ ...merge, made: step + 1 }))];
    const parts = new Map(nodes.map((node) => [`${node.start}-${node.end}`, node]));
    for (const merge of nodes.filter((node) => node.made)) {
      for (const part of [`${merge.start}-${merge.middle}`, `${merge.middle}-${merge.end}`]) Object.assign(parts.get(part), { gone: merge.made, above: merge.level });
    }
    wall.replaceChildren();
    wall.style.gridTemplateColumns = `repeat(${piece.bytes.length}, minmax(2.4rem, auto))`;
    blocks = nodes.map((node) => {
      const height = node.above ? node.above - node.level : 1;
      const text = node.made ? node.text : piece.kind === "merged" ? piece.bytes[node.start] : piece.text;
      const element = add(text, node.made ? "" : "byte", top - node.level - height + 2, height, node.start, node.end);
      element.title = node.made ? `step ${node.made}: rank ${node.rank}, id ${node.id}` : "";
      return { ...node, element };
    });
    let place = 0;
    for (const character of piece.characters) {
      add(character.text, "character", top + 2, 1, place, place + character.length);
      place += character.length;
    }
  }

  function code(text) {
    const element = document.createElement("code");
    element.textContent = text;
    return element;
  }

  function tell(piece, step) {
    const merge = piece.merges[step - 1];
    const state = document.createElement("strong");
    const count = blocks.filter((block) => block.element.classList.contains("standing")).length;
    state.textContent = `Step ${step} of ${piece.merges.length}: `;
    const symbols = ` ${count} symbol${count === 1 ? "" : "s"}.`;
    if (piece.kind === "special") said.replaceChildren(code(piece.text), " is a special token: it is not cut or merged.");
    else if (piece.kind === "whole") said.replaceChildren(code(piece.text), " is in the vocabulary as a whole: nothing needs to be merged.");
    else if (!merge) said.replaceChildren(state, code(piece.text), " in its bytes,", symbols);
    else said.replaceChildren(state, code(merge.left), " + ", code(merge.right), " → ", code(merge.text), `, rank ${merge.rank.toLocaleString("en")}, id ${merge.id};`, symbols);
  }

  function show(step) {
    const piece = pieces[chosen];
    slider.value = step;
    const standing = blocks.filter((block) => block.made <= step && !(block.gone <= step)).sort((a, b) => a.start - b.start);
    for (const block of blocks) block.element.className = `block${block.made ? "" : " byte"}${block.made > step ? " later" : ""}`;
    standing.forEach((block, place) => block.element.classList.add("standing", `tint-${place % 5}`));
    for (const block of blocks) {
      if (block.made && block.made === step) block.element.classList.add("new");
      if (block.gone === step + 1) block.element.classList.add("next");
    }
    buttons.back.disabled = step === 0;
    buttons.forward.disabled = step === piece.merges.length;
    buttons.play.disabled = piece.merges.length === 0;
    tell(piece, step);
  }

  function stop() {
    clearInterval(timer);
    timer = 0;
    buttons.play.textContent = "Play";
  }

  function choose(number, step) {
    stop();
    chosen = number;
    const piece = pieces[number];
    slider.max = piece.merges.length;
    slider.disabled = piece.merges.length === 0;
    build(piece);
    for (const token of tokens) token.classList.toggle("chosen", Number(token.dataset.piece) === number);
    buttons["previous-piece"].disabled = number === 0;
    buttons["next-piece"].disabled = number === pieces.length - 1;
    show(step ?? piece.merges.length);
  }

  function advance() {
    const step = Number(slider.value) + 1;
    show(step);
    if (step >= pieces[chosen].merges.length) stop();
  }

  function play() {
    if (timer) return stop();
    if (Number(slider.value) >= pieces[chosen].merges.length) show(0);
    buttons.play.textContent = "Pause";
    timer = setInterval(advance, pause);
  }

  const actions = {
    play,
    back: () => { stop(); show(Number(slider.value) - 1); },
    forward: () => { stop(); show(Number(slider.value) + 1); },
    "previous-piece": () => choose(chosen - 1),
    "next-piece": () => choose(chosen + 1),
  };
  for (const [name, button] of Object.entries(buttons)) button.addEventListener("click", actions[name]);
  slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
  for (const token of tokens) token.addEventListener("click", () => choose(Number(token.dataset.piece)));
  stage.hidden = false;
  const most = Math.max(...pieces.map((piece) => piece.merges.length));
  choose(pieces.findIndex((piece) => piece.merges.length === most));
})();
