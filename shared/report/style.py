"""The report's style sheet: light, dark and print; no external font, image or script."""

CSS = """
:root {
  color-scheme: light;
  --page: #f6f6f3; --surface: #ffffff; --line: #dedcd5; --grid: #e9e7e1;
  --ink: #16161a; --muted: #5b5a56;
  --this: #2a6fd0; --baseline: #8d8b84; --gain: #0a6b2d; --loss: #b3261e; --warn: #fdf3d6;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    color-scheme: dark;
    --page: #121214; --surface: #1b1b1e; --line: #37373c; --grid: #2b2b30;
    --ink: #f0efec; --muted: #a9a7a0;
    --this: #5b9bf0; --baseline: #93918a; --gain: #62c383; --loss: #f08a82; --warn: #3a3115;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 1080px; margin: 0 auto; padding: 32px 24px 48px; }
h1 { margin: 0; font-size: 30px; line-height: 1.2; letter-spacing: -0.01em; }
h2 { margin: 40px 0 4px; font-size: 19px; }
p { margin: 4px 0 12px; }
.sub { font-size: 17px; margin: 2px 0 0; }
.muted, figcaption { color: var(--muted); }
.muted { font-size: 14px; }
code, pre { font: 12.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
code { overflow-wrap: anywhere; }
.card {
  background: var(--surface); border: 1px solid var(--line); border-radius: 8px; padding: 14px 16px;
}
.warnings { background: var(--warn); margin-top: 18px; }
.warnings ul { margin: 0; padding-left: 18px; }
.tiles {
  display: grid; gap: 10px; margin-top: 10px;
  grid-template-columns: repeat(auto-fit, minmax(150px, 1fr));
}
.tile .name { color: var(--muted); font-size: 13px; }
.tile .value { font-size: 25px; line-height: 1.3; font-weight: 600; white-space: nowrap; }
.tile .unit { font-size: 15px; font-weight: 400; color: var(--muted); }
.tile .note { color: var(--muted); font-size: 12.5px; line-height: 1.35; }
.tiles:first-of-type, .warnings + .tiles { margin-top: 22px; }
.tile.main { border-color: var(--this); box-shadow: inset 0 3px 0 var(--this); }
.gain { color: var(--gain); } .loss { color: var(--loss); }

table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 8px; text-align: right; white-space: nowrap; }
th { font-weight: 600; font-size: 13px; color: var(--muted); vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; }
thead tr { border-bottom: 1px solid var(--line); }
tbody tr + tr { border-top: 1px solid var(--grid); }
tr.mean { font-weight: 600; }
tbody tr.first-mean { border-top: 2px solid var(--line); }
tr.mean .muted { font-weight: 400; }
.scroll { overflow-x: auto; }
.results .chart { width: 44%; padding-left: 18px; }
.scale { display: flex; justify-content: space-between; font-weight: 400; font-size: 12px; }
.track {
  position: relative; display: block; height: 18px;
  background: linear-gradient(to right, var(--grid) 1px, transparent 1px) 0 0 / 25% 100%;
  border-right: 1px solid var(--grid);
}
.track i { position: absolute; top: 50%; transform: translate(-50%, -50%); border-radius: 50%; }
.track i.this { width: 10px; height: 10px; background: var(--this); }
.track i.baseline { width: 9px; height: 9px; background: var(--surface);
  border: 2px solid var(--baseline); }
.track b { position: absolute; top: 50%; height: 3px; transform: translateY(-50%);
  background: var(--this); }
.track b.down { background: var(--loss); }
.key { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px; color: var(--muted);
  margin: 0 0 10px; }
.label { white-space: nowrap; margin-left: 10px; }
.label i { display: inline-block; width: 14px; height: 3px; margin-right: 5px;
  vertical-align: middle; }
.label .this { background: var(--this); } .label .baseline { background: var(--baseline); }
.label .selection { background: var(--gain); }
.key .track { display: inline-block; width: 14px; background: none; border: 0;
  vertical-align: middle; height: 12px; margin-right: 4px; }
.key .track i { left: 50%; } .key .track b { left: 0; width: 100%; }

.charts { display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); }
figure { margin: 0; break-inside: avoid; }
figure.chart { padding: 10px 12px 6px; }
figcaption { font-size: 13px; display: flex; justify-content: space-between; gap: 10px; }
figcaption strong { color: var(--ink); font-weight: 600; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; }
svg .axis { fill: var(--muted); font-size: 11.5px; }
svg .grid { stroke: var(--grid); fill: none; }
svg .rule { stroke: var(--baseline); stroke-width: 0.8; fill: none; }
svg .reference { stroke: var(--muted); stroke-width: 1; stroke-dasharray: 4 3; fill: none; }
svg .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }
svg .raw { fill: none; stroke-width: 0.8; opacity: 0.4; }
svg path.this { stroke: var(--this); } svg path.baseline { stroke: var(--baseline); }
svg path.selection { stroke: var(--gain); } svg .dot.selection { fill: var(--gain); }
svg .dot { stroke: var(--surface); stroke-width: 1; }
svg .dot.this { fill: var(--this); } svg .dot.baseline { fill: var(--baseline); }

.panels { display: grid; gap: 14px; }
.panels img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
.panels figcaption { justify-content: flex-start; margin-top: 6px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; margin: 0; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; }
details { margin-top: 10px; }
summary { cursor: pointer; font-weight: 600; }
pre { overflow-x: auto; margin: 10px 0 0; }
@media (max-width: 620px) {
  main { padding: 20px 14px 32px; }
  h1 { font-size: 25px; }
  .tiles { grid-template-columns: 1fr 1fr; }
  .results { display: block; }
  .results thead, .results tbody { display: block; }
  .results tr { display: grid; padding: 3px 0;
    grid-template-columns: minmax(0, 1fr) repeat(var(--numbers), 51px); }
  .results th, .results td { padding: 1px 3px; white-space: normal; }
  .results { font-size: 14px; }
  .results th { font-size: 11.5px; }
  .results td:first-child { overflow-wrap: anywhere; }
  .tile .value { font-size: 20px; }
  .panels figure { overflow-x: auto; }
  .panels img { width: 720px; max-width: none; }
  .results td.chart, .results th.chart { grid-column: 1 / -1; width: auto; padding: 1px 8px; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: 8px; }
}
@media print {
  body { background: none; font-size: 11px; -webkit-print-color-adjust: exact;
    print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  .card { border-radius: 0; }
  h2 { break-after: avoid; }
  tr { break-inside: avoid; }
  .charts { grid-template-columns: 1fr 1fr 1fr; }
  .tiles { grid-template-columns: repeat(4, 1fr); }
}
"""
