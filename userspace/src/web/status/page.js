'use strict';
// Relative, so that a path in front of ours, as proxies put there, makes no difference.
const SOURCE = 'live?history';
const EVERY_MS = 2000;
const ROWS = 15;
const SVG = 'http://www.w3.org/2000/svg';
const WIDTH = 300, HEIGHT = 80;

const byId = (id) => document.getElementById(id);
const grouped = (value, digits) => value.toLocaleString('en', { maximumFractionDigits: digits });
const rate = (value) => grouped(value, value < 100 ? 1 : 0);
const share = (value) => (value === null ? '-' : (value * 100).toFixed(1) + ' %');

const CHARTS = [
  { id: 'rate', title: 'lines a second', column: 'lines_per_second', shown: rate },
  { id: 'lost', title: 'datagrams lost a second', column: 'lost_per_second', shown: rate, bad: true },
  { id: 'refused', title: 'refused a second', column: 'refused_per_second', shown: rate, bad: true },
  { id: 'share', title: 'counted in the kernel', column: 'kernel_share', shown: share, top: 1 },
  { id: 'series', title: 'series', column: 'series', shown: (value) => grouped(value, 0) },
];

function element(name, text, parent) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

function makeChart(chart) {
  const figure = element('figure', undefined, byId('charts'));
  const caption = element('figcaption', undefined, figure);
  element('span', chart.title, caption);
  chart.now = element('b', '-', caption);
  chart.svg = document.createElementNS(SVG, 'svg');
  chart.svg.id = 'chart-' + chart.id;
  chart.svg.setAttribute('role', 'img');
  chart.svg.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`);
  chart.svg.setAttribute('preserveAspectRatio', 'none');
  if (chart.bad) chart.svg.classList.add('bad');
  const ground = document.createElementNS(SVG, 'line');
  for (const [name, value] of [['x1', 0], ['x2', WIDTH], ['y1', HEIGHT - 1], ['y2', HEIGHT - 1]]) {
    ground.setAttribute(name, value);
  }
  chart.path = document.createElementNS(SVG, 'path');
  chart.svg.append(ground, chart.path);
  figure.append(chart.svg);
  chart.range = element('small', '', figure);
}

// A gap in the values is a gap in the line.
function drawn(times, values, top) {
  const first = times[0], span = Math.max(times[times.length - 1] - first, 1);
  let text = '', pen = 'M';
  values.forEach((value, at) => {
    if (value === null) { pen = 'M'; return; }
    const x = ((times[at] - first) / span) * WIDTH;
    const y = HEIGHT - 2 - (value / top) * (HEIGHT - 4);
    text += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = 'L';
  });
  return text;
}

function drawChart(chart, history) {
  const values = history[chart.column];
  const present = values.filter((value) => value !== null);
  if (present.length === 0) { chart.path.setAttribute('d', ''); chart.now.textContent = '-'; return; }
  const most = Math.max(...present);
  chart.path.setAttribute('d', drawn(history.time, values, chart.top || most || 1));
  chart.now.textContent = chart.shown(values[values.length - 1]);
  const minutes = Math.round((history.time[history.time.length - 1] - history.time[0]) / 60);
  chart.range.textContent = `most: ${chart.shown(most)}, in ${minutes < 1 ? 'the last minute' : minutes + ' min'}`;
  chart.svg.setAttribute('aria-label', `${chart.title}: now ${chart.now.textContent}, ${chart.range.textContent}`);
  chart.svg.setAttribute('data-points', present.length);
}

function fill(id, rows) {
  const body = byId(id);
  body.replaceChildren();
  for (const cells of rows.slice(0, ROWS)) {
    const row = element('tr', undefined, body);
    cells.forEach((cell) => {
      const made = element('td', cell.number === undefined ? cell : cell.number, row);
      if (cell.number !== undefined) made.className = 'n';
    });
  }
  if (rows.length === 0) element('td', 'none', element('tr', undefined, body));
}

function show(report) {
  const history = report.history;
  if (history.time.length > 0) CHARTS.forEach((chart) => drawChart(chart, history));
  for (const list of ['identities', 'dags', 'senders']) {
    fill(list, report[list].map((talker) => [
      { number: rate(talker.per_second) }, talker.in_kernel ? 'kernel' : '', talker.name,
    ]));
  }
  fill('losses', report.losses.map((loss) => [
    { number: grouped(loss.total, 0) }, { number: rate(loss.per_second) }, `${loss.metric} ${loss.reason}`,
  ]));
  const at = new Date(report.time * 1000).toLocaleTimeString();
  byId('state').textContent = `as of ${at}${report.ready ? '' : ', not ready'}`;
}

async function look() {
  if (document.hidden) return;
  try {
    const answer = await fetch(SOURCE, { cache: 'no-store' });
    if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
    show(await answer.json());
  } catch (error) {
    byId('state').textContent = `no answer, what you see is old: ${error.message}`;
  }
}

CHARTS.forEach(makeChart);
document.addEventListener('visibilitychange', look);
setInterval(look, EVERY_MS);
look();
