// Calls WeChat through a host with a WeChat library that is not ours: co-wechat-api, wechat-api or
// node-easywechat, as the first argument says.
//
// Reads a task from standard input as JSON (base, app_id, key, user, text, picture). Of the library only
// the base address is changed, and the API key stands where the AppSecret would. Prints what the library
// understood.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const root = (task) => `${task.base}/wechat/${task.app_id}`;
const buttons = [{ type: "click", name: "今日茶单", key: "TEA" }];
const NOBODY = "oNobodyThatAnybodyKnows0000";

// What co-wechat-api and wechat-api do alike, but that one gives promises and the other takes callbacks.
async function nodeWebot(api, task, call) {
  const told = {};
  told.followers = (await call("getFollowers")).data.openid;
  told.user = (await call("getUser", task.user)).openid;
  told.sent = (await call("sendText", task.user, task.text)).errcode;
  told.menu = (await call("createMenu", { button: buttons })).errcode;
  told.button = (await call("getMenu")).menu.button[0].name;
  // They take a file, not bytes.
  const directory = await mkdtemp(join(tmpdir(), "wxhost-interop-"));
  const file = join(directory, "tea.png");
  await writeFile(file, Buffer.from(task.picture, "hex"));
  const media = await call("uploadMedia", file, "image");
  await rm(directory, { recursive: true });
  told.picture = Buffer.from(await call("getMedia", media.media_id)).toString("hex");
  try {
    await call("getUser", NOBODY);
  } catch (refusal) {
    told.refusal = refusal.code;
  }
  return told;
}

async function coWechatApi(task) {
  const { default: API } = await import("co-wechat-api");
  const api = new API(task.app_id, task.key);
  api.prefix = `${root(task)}/cgi-bin/`;
  api.fileServerPrefix = api.prefix;
  api.customservicePrefix = `${root(task)}/customservice/`;
  return nodeWebot(api, task, (name, ...args) => api[name](...args));
}

async function wechatApi(task) {
  const { default: API } = await import("wechat-api");
  const api = new API(task.app_id, task.key);
  api.endpoint = root(task);
  api.fileServerPrefix = `${root(task)}/cgi-bin/`;
  // Its callbacks give the answer and the response; promisify keeps the first.
  return nodeWebot(api, task, (name, ...args) => promisify(api[name].bind(api))(...args));
}

async function nodeEasywechat(task) {
  const { OfficialAccount } = await import("node-easywechat");
  const app = new OfficialAccount({
    app_id: task.app_id,
    secret: task.key,
    use_stable_access_token: true,
    http: { baseURL: `${root(task)}/` },
  });
  // Tokens in memory rather than in a file of the working directory.
  const kept = new Map();
  app.setCache({
    get: async (key) => kept.get(key) ?? null,
    set: async (key, value) => Boolean(kept.set(key, value)),
    has: async (key) => kept.has(key),
    delete: async (key) => kept.delete(key),
  });
  const client = app.getClient();
  const get = async (path, params) => (await client.get(path, { params })).toObject();
  const post = async (path, json) => (await client.postJson(path, json)).toObject();
  const told = {};
  told.followers = (await get("cgi-bin/user/get")).data.openid;
  told.user = (await get("cgi-bin/user/info", { openid: task.user })).openid;
  const message = { touser: task.user, msgtype: "text", text: { content: task.text } };
  told.sent = (await post("cgi-bin/message/custom/send", message)).errcode;
  told.menu = (await post("cgi-bin/menu/create", { button: buttons })).errcode;
  told.button = (await get("cgi-bin/menu/get")).menu.button[0].name;
  const { default: FormData } = await import("form-data");
  const form = new FormData();
  form.append("media", Buffer.from(task.picture, "hex"), { filename: "tea.png", contentType: "image/png" });
  const upload = { params: { type: "image" }, data: form, headers: form.getHeaders() };
  const media = (await client.request("POST", "cgi-bin/media/upload", upload)).toObject();
  const download = { params: { media_id: media.media_id }, responseType: "arraybuffer" };
  const picture = await client.request("GET", "cgi-bin/media/get", download);
  told.picture = Buffer.from(picture.getContent(false)).toString("hex");
  try {
    const refused = await get("cgi-bin/user/info", { openid: NOBODY });
    told.refusal = refused.errcode;
  } catch (refusal) {
    told.refusal = Number(/"errcode":(\d+)/.exec(refusal.message)?.[1]);
  }
  return told;
}

const libraries = {
  "co-wechat-api": coWechatApi,
  "wechat-api": wechatApi,
  "node-easywechat": nodeEasywechat,
};
let input = "";
for await (const piece of process.stdin) {
  input += piece;
}
const told = await libraries[process.argv[2]](JSON.parse(input));
console.log(JSON.stringify(told));
