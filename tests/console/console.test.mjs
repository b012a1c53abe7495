// The console in a real browser, over a real weft on loopback: what it shows, by keyboard too, in the dark and in the light.
//
// `make console` installs what it needs and runs it. WEFT: the binary. SHOTS: a folder for pictures, to be looked at.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

// Installed outside the source tree.
const require = createRequire(join(process.env.MODULES, "package.json"));
const { chromium } = require("playwright-core");
const axe = require.resolve("axe-core/axe.min.js");

const SUBNET = "127.0.61";
const ADMIN = `http://${SUBNET}.31:7421`;
const SHOTS = process.env.SHOTS;
const state = mkdtempSync(join(tmpdir(), "weft-console-"));
let weft;
let browser;

before(async () => {
  weft = spawn(process.env.WEFT, ["up", "--state", state, "--subnet", SUBNET, "--no-replay"], { stdio: ["ignore", "pipe", "inherit"] });
  await serving(weft);
  browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  if (SHOTS) mkdirSync(SHOTS, { recursive: true });
});

after(async () => {
  await browser?.close();
  if (weft.exitCode === null) {
    const gone = new Promise((done) => weft.once("exit", done));
    weft.kill("SIGINT");
    await gone;
  }
  rmSync(state, { recursive: true });
});

// `weft up` says when it serves.
function serving(child) {
  return new Promise((done, failed) => {
    let said = "";
    child.stdout.on("data", (data) => {
      said += data;
      if (said.includes("weft is up")) done();
    });
    child.once("exit", (code) => failed(new Error(`weft up ended with ${code} before it served:\n${said}`)));
  });
}

// A page that fails the test with whatever the browser complains of.
async function open(options = {}) {
  const page = await browser.newPage({ viewport: { width: 1400, height: 1000 }, ...options });
  const complaints = [];
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(error.message));
  await page.goto(ADMIN);
  await page.locator("#live", { hasText: "live" }).waitFor();
  return { page, complaints };
}

async function chat(question) {
  const system = "You answer briefly and name your source. ".repeat(60);
  const answer = await fetch(`http://${SUBNET}.31:8080/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: "sim-8b", max_tokens: 4, stream: true, stream_options: { include_usage: true }, messages: [{ role: "system", content: system }, { role: "user", content: question }] }),
  });
  assert.equal(answer.status, 200);
  await answer.text();
  return answer.headers.get("x-weft-request-id");
}

test("it shows members, nodes, engines and how full the tiers are", async () => {
  const { page, complaints } = await open();
  assert.equal(await page.locator("[data-member]").count(), 3);
  assert.equal(await page.locator("[data-leads=true]").count(), 1);
  assert.equal(await page.locator("[data-node]").count(), 2);
  assert.equal(await page.locator("[data-node] .endpoint").count(), 4);
  assert.match(await page.locator("[data-node] .tier").first().innerText(), /host[^]*of 1\.0 GiB/);
  assert.deepEqual(complaints, []);
  await page.close();
});

test("a request is there with its explanation, and what two prompts share", async () => {
  const { page, complaints } = await open();
  await chat("Who was first?");
  const request = await chat("And who was second?");
  const row = page.locator("#decisions tr", { hasText: request.slice(0, 8) });
  await row.waitFor();
  assert.match(await row.innerText(), /sim-8b[^]*engine-\d[^]*answered/);
  const shared = page.locator("#prefixes summary").first();
  assert.match(await shared.innerText(), /[1-9][\d,]* tokens × 2/);

  // By keyboard alone: to the request, into its explanation, and out again.
  await row.locator("button").focus();
  await page.keyboard.press("Enter");
  const dialog = page.locator("dialog[open]");
  await dialog.waitFor();
  const says = await dialog.innerText();
  assert.ok(says.includes(request), says);
  assert.equal(await dialog.locator("tr.picked").count(), 1);
  assert.equal(await dialog.locator("tbody tr").count(), 4, "every engine was considered");
  if (SHOTS) await page.screenshot({ path: join(SHOTS, "decision.png") });
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "hidden" });
  assert.deepEqual(complaints, []);
  await page.close();
});

for (const colorScheme of ["light", "dark"]) {
  test(`it can be read by everybody, ${colorScheme}`, async () => {
    const { page, complaints } = await open({ colorScheme });
    // The policy lets the page load nothing of others; the checker comes in by the debugger.
    await page.evaluate((await import("node:fs")).readFileSync(axe, "utf8"));
    const { violations } = await page.evaluate(() => window.axe.run());
    assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map(({ target }) => target.join(" "))]), []);
    if (SHOTS) await page.screenshot({ path: join(SHOTS, `console-${colorScheme}.png`), fullPage: true });
    assert.deepEqual(complaints, []);
    await page.close();
  });
}

test("the theme is the reader's, and stays", async () => {
  const { page } = await open({ colorScheme: "light" });
  const back = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await back();
  await page.locator("#theme").click();
  const dark = await back();
  assert.notEqual(dark, light);
  await page.reload();
  assert.equal(await back(), dark);
  await page.close();
});

test("it says so when the router is gone, and keeps what it showed", async () => {
  const { page } = await open();
  await page.route("**/console/state", (route) => route.abort());
  await page.locator("#live.lost").waitFor();
  assert.match(await page.locator("#live").innerText(), /does not answer/);
  assert.equal(await page.locator("[data-member]").count(), 3);
  await page.close();
});

test("it is of this port only, and tells nothing secret", async () => {
  const page = await fetch(ADMIN);
  assert.match(page.headers.get("content-security-policy"), /default-src 'self'/);
  const text = await (await fetch(`${ADMIN}/console/state`)).text();
  for (const secret of ["salt", "You answer briefly", "Who was first"]) assert.ok(!text.includes(secret), secret);
  for (const method of ["POST", "PUT", "DELETE"]) {
    assert.equal((await fetch(`${ADMIN}/console/state`, { method })).status, 405);
  }
});
