// node build.mjs WIT OUT
import { componentize } from '@bytecodealliance/componentize-js';
import { readFile, writeFile } from 'node:fs/promises';

const [witPath, out] = process.argv.slice(2);
const { component } = await componentize(await readFile('plugin.js', 'utf8'), {
  witPath,
  worldName: 'callback-plugin',
  disableFeatures: ['http', 'fetch-event'],
});
await writeFile(out, component);
