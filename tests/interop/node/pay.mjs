// A customer pays on the host's page in a real browser, on a screen of a phone's size: logs in on WeChat's page, taps,
// changes their mind, taps again, pays, and comes back later.
//
// Reads from standard input as JSON where it begins (start), who is in front of it (user), where the pretend WeChat is
// (wechat) and where pictures are to be put (pictures). WeChat's own browser brings `WeixinJSBridge` along; here it is
// made of what the pretend WeChat offers. Prints what the pages said.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { launch, PHONE } from './browser.mjs';

const task = JSON.parse(readFileSync(0, 'utf8'));
const browser = await launch(task.chromium);
const context = await browser.newContext(PHONE);
const page = await context.newPage();
const complaints = [];
page.on('console', (line) => line.type() === 'error' && complaints.push(line.text()));
page.on('pageerror', (error) => complaints.push(String(error)));
const picture = (name) => page.screenshot({ path: join(task.pictures, `pay-${name}.png`), fullPage: true });

let cancel = true;
await context.exposeFunction('wechatPays', async (parameters) => {
  const body = JSON.stringify({ ...parameters, open_id: task.user, cancel });
  const answer = await fetch(`${task.wechat}/_sim/pay/invoke`, { method: 'POST', body });
  return answer.json();
});
await context.addInitScript(() => {
  window.WeixinJSBridge = {
    invoke: (name, parameters, done) => name === 'getBrandWCPayRequest' && window.wechatPays(parameters).then(done),
  };
});
const state = (wanted) => page.waitForSelector(`#state[data-state="${wanted}"]`);
const said = () => page.locator('body').innerText();

await page.goto(task.start);
await page.locator('select[name="open_id"]').selectOption(task.user);
await page.locator('button[value="allow"]').click();
await page.waitForSelector('#pay');
await picture('1-unpaid');
const unpaid = await said();
await page.locator('#pay').click();
await state('cancelled');
await picture('2-cancelled');
cancel = false;
await page.locator('#pay').click();
await state('paid');
await picture('3-paid');
const paid = await said();
const offered = await page.locator('#pay').isVisible();
await page.reload();
const again = await said();
// Somebody else has the link.
const stranger = await (await browser.newContext(PHONE)).newPage();
await stranger.goto(task.start);
await stranger.locator('select[name="open_id"]').selectOption(task.stranger);
await stranger.locator('button[value="allow"]').click();
await stranger.waitForURL((url) => url.pathname === new URL(task.start).pathname);
const refused = await stranger.locator('body').innerText();
await browser.close();
process.stdout.write(JSON.stringify({ unpaid, paid, offered, again, refused, complaints }));
