import { write } from 'wxhost:plugin/log@0.1.0';

export const callbackHandler = {
  handle(event) {
    if (event.content.tag !== 'text') return { effects: [] };
    write('info', 'from JavaScript');
    return { reply: { tag: 'text', val: 'hello from JavaScript' }, effects: [] };
  },
};
