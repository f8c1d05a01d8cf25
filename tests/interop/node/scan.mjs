// Walks an invitation through in a real browser, on a screen of a phone's size: opens its page, goes on to
// WeChat's, agrees there, and comes back.
//
// Reads from standard input as JSON where it begins (link), by which way it goes on (form: pc or h5), which
// account is agreed for (app_id) and where pictures are to be put (pictures). Prints what the last page says.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { launch, PHONE } from './browser.mjs';

const task = JSON.parse(readFileSync(0, 'utf8'));
const browser = await launch(task.chromium);
const page = await browser.newPage(PHONE);
const complaints = [];
page.on('console', (line) => line.type() === 'error' && complaints.push(line.text()));
page.on('pageerror', (error) => complaints.push(String(error)));
const picture = (name) =>
  page.screenshot({ path: join(task.pictures, `${task.form}-${name}.png`), fullPage: true });

await page.goto(task.link);
await picture('1-invitation');
const qrCode = await page.locator('img').evaluate((image) => image.naturalWidth);
await page.locator(`a[href$="/${task.form}"]`).click();
await page.waitForSelector(`button[value="${task.app_id}"]`);
await picture('2-wechat');
await page.locator(`button[value="${task.app_id}"]`).click();
await page.waitForURL(/\/back\//);
await picture('3-back');
const said = await page.locator('body').innerText();
await page.reload();
const again = await page.locator('body').innerText();
await browser.close();
process.stdout.write(JSON.stringify({ said, again, qr_code: qrCode > 0, complaints }));
