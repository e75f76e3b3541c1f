// SPDX-License-Identifier: Apache-2.0

// draw.mjs EVALUATED OUT: draws each dashboard of what `evaluate` printed into OUT/NAME.png, with Chromium, in 256 colours.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';

const [file, out] = process.argv.slice(2);
const evaluated = JSON.parse(readFileSync(file, 'utf8'));
const dir = mkdtempSync(join(tmpdir(), 'dovetail-dashboards-'));
mkdirSync(out, { recursive: true });
try {
  await build({
    entryPoints: [join(import.meta.dirname, 'page.jsx')], outfile: join(dir, 'page.js'), bundle: true, format: 'esm', jsx: 'automatic', minify: true, logLevel: 'error',
    define: { 'process.env.NODE_ENV': '"production"' }, loader: { '.ttf': 'empty', '.svg': 'dataurl' },
  });
  const styles = readFileSync(join(dir, 'page.css'), 'utf8');
  symlinkSync(join(import.meta.dirname, 'node_modules/@grafana/ui/dist/public'), join(dir, 'build')); // where components look for icons
  const page = readFileSync(join(dir, 'page.js'), 'utf8').replaceAll('</script', '<\\/script');
  for (const { name, model } of evaluated.dashboards) {
    const data = JSON.stringify({ evaluated, name }).replaceAll('<', '\\u003c');
    writeFileSync(join(dir, `${name}.html`), `<!doctype html><meta charset="utf-8">
<style>${styles} html { font-size: 14px } body { margin: 0; font-family: Inter, sans-serif; background: #f4f5f5 }</style>
<div id="dashboard"></div><script>globalThis.__grafana_public_path__ = 'file://${dir}/'; globalThis.dashboards = ${data}</script><script type="module">${page}</script>`);
    const rows = Math.max(...model.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
    execFileSync('chromium', [
      '--headless=new', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--allow-file-access-from-files', `--user-data-dir=${join(dir, 'chromium')}`, // no-sandbox: it runs as root, and its page is ours
      '--force-device-scale-factor=1.5', '--virtual-time-budget=10000', `--window-size=1200,${rows * 38 + 45}`, `--screenshot=${join(out, `${name}.png`)}`,
      ...(process.env.DEBUG ? ['--enable-logging=stderr'] : []), `file://${join(dir, `${name}.html`)}`,
    ], { stdio: process.env.DEBUG ? 'inherit' : 'ignore', timeout: 120_000 });
    execFileSync('pngquant', ['--force', '--strip', '--speed=1', '--nofs', '--ext=.png', '256', join(out, `${name}.png`)]);
  }
} finally {
  rmSync(dir, { recursive: true, force: true });
}
