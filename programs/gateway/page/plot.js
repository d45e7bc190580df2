// Curves by uPlot, where it is there.
import { h, show } from "./dom.js";

const colors = () => (matchMedia("(prefers-color-scheme: dark)").matches ? ["#7ab8ff", "#6fd08c", "#c8a2ff", "#a3adb8", "#f0b429", "#ff8a80"] : ["#0b57a4", "#116329", "#6f3fb5", "#59636e", "#8a4600", "#b3201c"]);

// A line down at each mark.
const marked = (color) => ({ hooks: { draw: (u) => {
  u.ctx.save();
  u.ctx.strokeStyle = color;
  u.ctx.globalAlpha = 0.5;
  u.ctx.setLineDash([2, 3]);
  for (const t of u.marks || []) {
    const x = Math.round(u.valToPos(t, "x", true));
    if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) continue;
    u.ctx.beginPath();
    u.ctx.moveTo(x, u.bbox.top);
    u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
    u.ctx.stroke();
  }
  u.ctx.restore();
} } });

// names: of the curves; data: [times s, …a list for each]; right: which are counted on the right; marks: times s.
export function plot(at, title, names, right, data, marks) {
  if (!window.uPlot) { show(at, h("p", { class: "quiet" }, "curves need uPlot, which was not there when this was built")); return; }
  const color = colors(), front = getComputedStyle(at).color, line = getComputedStyle(document.documentElement).getPropertyValue("--line");
  const axis = { stroke: front, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
  if (at.curve && at.curve.title === title) { at.curve.marks = marks; at.curve.setData(data); return; }
  show(at);
  at.setAttribute("role", "img");
  at.setAttribute("aria-label", title);
  at.curve = new window.uPlot({ width: Math.max(280, at.clientWidth), height: 240, scales: { x: { time: true }, n: { range: (u, lo, hi) => [0, Math.max(1, hi * 1.1)] }, y: { range: (u, lo, hi) => [0, Math.max(1, hi * 1.1)] } },
    axes: [axis, { ...axis, scale: "y" }, { ...axis, scale: "n", side: 1, grid: { show: false } }], plugins: [marked(front)],
    series: [{}, ...names.map((label, i) => ({ label, scale: right.includes(label) ? "n" : "y", stroke: color[i % color.length], width: 2, points: { show: false }, show: label !== "waiting", dash: right.includes(label) ? [6, 4] : null, paths: right.includes(label) ? window.uPlot.paths.stepped({ align: 1 }) : null }))] }, data, at);
  Object.assign(at.curve, { title, marks });
}
