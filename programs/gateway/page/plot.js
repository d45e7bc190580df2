// Curves by uPlot, where it is there.
import { h, show } from "./dom.js";

const colors = () => (matchMedia("(prefers-color-scheme: dark)").matches ? ["#7ab8ff", "#6fd08c", "#f0b429", "#ff8a80", "#a3adb8"] : ["#0b57a4", "#116329", "#8a4600", "#b3201c", "#59636e"]);

// names: of the curves; data: [times s, …a list for each]; right: which are counted on the right.
export function plot(at, title, names, right, data) {
  if (!window.uPlot) { show(at, h("p", { class: "quiet" }, "curves need uPlot, which was not there when this was built")); return; }
  const color = colors(), front = getComputedStyle(at).color, line = getComputedStyle(document.documentElement).getPropertyValue("--line");
  const axis = { stroke: front, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
  if (at.curve && at.curve.names === names.join()) { at.curve.setData(data); return; }
  show(at);
  at.setAttribute("role", "img");
  at.setAttribute("aria-label", title);
  at.curve = new window.uPlot({ width: Math.max(280, at.clientWidth), height: 220, title, scales: { x: { time: true }, n: { range: (u, lo, hi) => [0, Math.max(1, hi * 1.1)] }, y: { range: (u, lo, hi) => [0, Math.max(1, hi * 1.1)] } },
    axes: [axis, { ...axis, scale: "y" }, { ...axis, scale: "n", side: 1, grid: { show: false } }],
    series: [{}, ...names.map((label, i) => ({ label, scale: right.includes(label) ? "n" : "y", stroke: color[i % color.length], width: 2, dash: right.includes(label) ? [6, 4] : null, paths: right.includes(label) ? window.uPlot.paths.stepped({ align: 1 }) : null }))] }, data, at);
  at.curve.names = names.join();
}
