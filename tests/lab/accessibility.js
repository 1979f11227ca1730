// What is wrong with a page for people who do not see it, or see it badly (WCAG 2.2, level AA); run in the page.
() => {
  const wrong = [];
  const parse = (text) => (text.match(/[\d.]+/g) || []).map(Number);
  const linear = (c) => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const [r, g, b, a = 1] = parse(getComputedStyle(at).backgroundColor);
      if (a === 1 && r !== undefined) return [r, g, b];
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0] : [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const seen = new Set();
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || seen.has(element) || !element.checkVisibility()) continue;
    if (["TITLE", "DESC", "SCRIPT", "STYLE"].includes(element.tagName.toUpperCase())) continue;
    seen.add(element);
    const style = getComputedStyle(element);
    const ink = parse(element instanceof SVGElement ? style.fill : style.color);
    const [one, two] = [luminance(ink), luminance(ground(element))].sort((a, b) => b - a);
    const large = parseFloat(style.fontSize) >= 24;
    const contrast = (one + 0.05) / (two + 0.05);
    if (contrast < (large ? 3 : 4.5)) wrong.push(`contrast ${contrast.toFixed(2)}: ${walker.currentNode.data.slice(0, 40)}`);
  }
  if (!document.documentElement.lang) wrong.push("no language");
  if (!document.title) wrong.push("no title");
  if (document.querySelectorAll("h1").length !== 1) wrong.push("not one h1");
  if (document.querySelectorAll("main").length !== 1) wrong.push("not one main");
  const levels = [...document.querySelectorAll("h1,h2,h3,h4")].map((h) => Number(h.tagName[1]));
  levels.forEach((level, at) => { if (at && level > levels[at - 1] + 1) wrong.push("a heading level is skipped"); });
  for (const svg of document.querySelectorAll("svg")) {
    if (svg.getAttribute("role") !== "img") wrong.push("a chart without role");
    if (!svg.querySelector("title")?.textContent || !svg.querySelector("desc")?.textContent) wrong.push("a chart without text");
  }
  for (const table of document.querySelectorAll("table")) {
    if (!table.caption?.textContent) wrong.push("a table without caption");
    if ([...table.querySelectorAll("th")].some((th) => !th.scope)) wrong.push("a heading cell without scope");
  }
  for (const control of document.querySelectorAll("a[href], summary, progress")) {
    if (!(control.textContent.trim() || control.getAttribute("aria-label"))) wrong.push(`a ${control.tagName} without name`);
  }
  for (const region of document.querySelectorAll(".scroll")) {
    if (region.tabIndex !== 0 || !region.getAttribute("aria-label")) wrong.push("a scrolling table out of reach of the keyboard");
  }
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  if (new Set(ids).size !== ids.length && !document.querySelector("svg")) wrong.push("an id twice");
  return [...new Set(wrong)];
}
