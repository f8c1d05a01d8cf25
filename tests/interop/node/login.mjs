// Logs in by a real browser, on a screen of a phone's size: opens a page that wants to know who it is, agrees on
// WeChat's page, and comes back; then again, and refuses.
//
// Reads from standard input as JSON where it begins (start), who is in front of it (user), the session's cookie
// (cookie) and where pictures are to be put (pictures). Prints where it was led to and what it keeps.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { launch, PHONE } from './browser.mjs';

const task = JSON.parse(readFileSync(0, 'utf8'));
const browser = await launch(task.chromium);
const context = await browser.newContext(PHONE);
const page = await context.newPage();
const picture = (name) => page.screenshot({ path: join(task.pictures, `login-${name}.png`), fullPage: true });
const go = async (consent) => {
  await page.goto(task.start);
  await page.locator('select[name="open_id"]').selectOption(task.user);
  await picture(`1-wechat-${consent}`);
  await page.locator(`button[value="${consent}"]`).click();
  await page.waitForURL((url) => url.pathname === new URL(task.page).pathname);
  return page.url();
};

const refused = await go('refuse');
const led = await go('allow');
const seen = await page.evaluate(() => document.cookie);
const kept = (await context.cookies()).find((cookie) => cookie.name === task.cookie);
// Somebody else's link, in a browser that has not begun anything.
const stranger = await (await browser.newContext(PHONE)).newPage();
await stranger.goto(task.stranger);
const said = await stranger.locator('body').innerText();
await stranger.screenshot({ path: join(task.pictures, 'login-2-stranger.png'), fullPage: true });
await browser.close();
process.stdout.write(JSON.stringify({ led, refused, seen, kept, said }));
