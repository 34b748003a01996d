/* What a page needs besides htmx: times of here, questions before harm, and the tasks behind the timeline. */
"use strict";

/* <local-time datetime="…">: the time where the reader is. What the server wrote stays for those without scripts. */
customElements.define("local-time", class extends HTMLElement {
  static observedAttributes = ["datetime"];

  connectedCallback() { this.show(); }
  attributeChangedCallback() { if (this.shadowRoot) this.show(); }

  show() {
    const at = new Date(this.getAttribute("datetime"));
    if (Number.isNaN(at.valueOf())) return;
    const root = this.shadowRoot ?? this.attachShadow({ mode: "open" });
    const clock = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
    const today = at.toDateString() === new Date().toDateString();
    const day = at.toLocaleDateString([], { year: "numeric", month: "short", day: "numeric" });
    root.textContent = today ? clock : `${day}, ${clock.slice(0, 5)}`;
    this.title = at.toLocaleString();
  }
});

/* Forms that do harm ask first. */
document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
}, true);

/* A filter that is chosen applies at once. */
document.addEventListener("change", (event) => {
  if (event.target.matches("select[data-submit]")) event.target.form.requestSubmit();
});

/* A click on the timeline leads to the task that ran there. */
document.addEventListener("click", (event) => {
  const chart = event.target.closest?.("svg.lanes");
  if (!chart) return;
  const box = chart.closest(".timeline");
  const task = event.target.dataset?.task;
  if (task) {
    window.location.assign(`/jobs/${box.dataset.job}/tasks/${task}`);
    return;
  }
  const area = chart.getBoundingClientRect();
  const at = (event.clientX - area.left) / area.width;
  const lane = Math.floor((event.clientY - area.top) / (area.height / box.querySelectorAll(".names li").length));
  window.location.assign(`/jobs/${box.dataset.job}/at?lane=${lane}&at=${at.toFixed(5)}`);
});

/* Logs that are followed stay at their ends, unless somebody reads further up. */
document.addEventListener("htmx:before:swap", () => {
  for (const log of document.querySelectorAll("pre.log")) {
    log.dataset.end = log.scrollHeight - log.scrollTop - log.clientHeight < 8 ? "yes" : "no";
  }
});
document.addEventListener("htmx:after:swap", () => {
  for (const log of document.querySelectorAll('pre.log[data-end="yes"]')) log.scrollTop = log.scrollHeight;
});
