// Theme, keyboard and the phone's menu: what needs no server. Everything else is Python.
(() => {
  "use strict";
  const root = document.documentElement;
  const themes = ["auto", "light", "dark"];
  const chosen = () => /(?:^|; )tocsin-theme=(light|dark)/.exec(document.cookie)?.[1] ?? "auto";
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const theme = chosen();
    root.dataset.theme = theme === "auto" ? (system.matches ? "dark" : "light") : theme;
    root.dataset.chosen = theme;
  };
  const nextTheme = () => {
    const theme = themes[(themes.indexOf(chosen()) + 1) % themes.length];
    document.cookie = `tocsin-theme=${theme}; path=/; max-age=${theme === "auto" ? 0 : 31536000}; samesite=strict`;
    apply();
    setDark(theme === "auto" ? null : theme === "dark");
    document.dispatchEvent(new Event("tocsin-theme"));
  };
  apply();
  system.addEventListener("change", apply);

  const keys = () => document.getElementById("keys");
  const menu = (open) => {
    const button = document.querySelector("button.menu");
    root.classList.toggle("menu-open", open ?? !root.classList.contains("menu-open"));
    button?.setAttribute("aria-expanded", root.classList.contains("menu-open"));
  };
  document.addEventListener("click", (event) => {
    const at = event.target.closest?.("[data-theme-switch], [data-keys-switch], button.menu, .command, dialog");
    if (at?.matches("[data-theme-switch]")) nextTheme();
    else if (at?.matches("[data-keys-switch]")) keys()?.showModal();
    else if (at?.matches("button.menu")) menu();
    else if (at?.matches(".command")) getSelection().selectAllChildren(at);
    else if (at === event.target && at?.matches("dialog")) at.close();
  });

  // What pages need in the browser: how numbers are written, a chart as a picture, how wide the window is.
  window.tocsin = {
    number: (value) => (value === null || value === undefined || value === "-" ? "–" : String(+Number(value).toPrecision(6))),
    tick(value) {
      const size = Math.abs(value);
      const [by, unit] = size >= 1e9 ? [1e9, "G"] : size >= 1e6 ? [1e6, "M"] : size >= 1e4 ? [1e3, "k"] : [1, ""];
      return size && (size < 1e-4 || size >= 1e13) ? value.toExponential(1) : +(value / by).toPrecision(6) + unit;
    },
    save(id, name) {
      const a = document.createElement("a");
      const backgroundColor = getComputedStyle(root).getPropertyValue("--surface").trim();
      a.href = getElement(id).chart.getDataURL({ type: "png", pixelRatio: 2, backgroundColor });
      a.download = `${name}.png`;
      a.click();
    },
  };
  const measure = () => (document.cookie = `tocsin-width=${innerWidth}; path=/; samesite=strict`);
  measure();
  addEventListener("resize", measure);
  document.addEventListener("visibilitychange", () => emitEvent("shown", !document.hidden));
  addEventListener("popstate", () => location.reload());

  let went = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.key === "Escape") return menu(false);
    if (event.target.closest?.("input, textarea, select, [contenteditable=true], .cm-editor")) return;
    const there = event.timeStamp - went < 1000 && document.querySelector(`nav [data-key="${CSS.escape(event.key)}"]`);
    const hot = document.querySelector(`[data-hotkey="${CSS.escape(event.key)}"]`);
    if (there) location.assign(there.href);
    else if (hot) hot.click();
    else if (event.key === "g") went = event.timeStamp;
    else if (event.key === "?") keys()?.showModal();
    else if (event.key === "t") nextTheme();
    else if (event.key === "/") {
      const search = document.querySelector("[data-search] input, [data-search] textarea, input[data-search]");
      if (!search) return;
      event.preventDefault();
      search.focus();
      search.select?.();
    }
  });
})();
