// A real browser, on a screen of a phone's size.

import { chromium } from 'playwright-core';

export const PHONE = { viewport: { width: 390, height: 780 }, locale: 'zh-CN' };

export const launch = (executablePath) =>
  chromium.launch({
    executablePath,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
