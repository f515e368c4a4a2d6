// A server that speaks Supabase's REST protocol over a real PostgreSQL: @supabase/lite, with two of its known gaps closed.
// Run by tests/supabase/lite.py with PORT, DATABASE_URL, PUBLISHABLE_KEY, SECRET_KEY and JWT_SECRET in its environment.

import { createServer } from "node:http";
import { App } from "@supabase/lite";
import { createPostgresConnection } from "@supabase/lite/postgres";

// Lite turns a jsonb argument into text before the driver, which would then quote it again. And a number of a jsonb that
// a double cannot hold leaves as it came, as PostgREST, which passes PostgreSQL's own text on, does.
const jsonb = (oid) => ({
  to: oid,
  from: [oid],
  serialize: (value) => (typeof value === "string" ? value : JSON.stringify(value)),
  parse: (text) =>
    JSON.parse(text, (_, value, { source } = {}) =>
      typeof value === "number" && source !== undefined && String(value) !== source ? JSON.rawJSON(source) : value,
    ),
});

const connection = createPostgresConnection({
  url: process.env.DATABASE_URL,
  postgresOptions: { types: { json: jsonb(114), jsonb: jsonb(3802) }, onnotice: () => {} },
});

// PostgREST answers every SQLSTATE with itself in the body (https://docs.postgrest.org/en/stable/references/errors.html);
// Lite hides those it has no HTTP status for. Its way for a function to raise any error is used to say them all.
const STATUS = { "23503": 409, "23505": 409, "25006": 405, "42501": 403, "42883": 404, "42P01": 404, "57014": 500 };
const CLASSES = { "08": 503, "09": 500, "25": 500, "28": 403, "38": 500, "39": 500, "40": 500, "53": 503, "54": 500, "55": 500, "57": 500, "58": 500, XX: 500 };
const understood = (code) => code === "42501" || code === "PGRST" || code.startsWith("PT");
const normalize = connection.normalizeDbError.bind(connection);
connection.normalizeDbError = (error) => {
  const known = normalize(error);
  const code = known?.code;
  if (typeof code !== "string" || !/^[0-9A-Z]{5}$/.test(code) || understood(code)) {
    return known;
  }
  const status = STATUS[code] ?? CLASSES[code.slice(0, 2)] ?? 400;
  const message = JSON.stringify({ code, message: known.message, details: known.detail ?? null, hint: known.hint ?? null });
  return { code: "PGRST", message, detail: JSON.stringify({ status, headers: {} }) };
};

const app = new App({
  connection,
  api: { enabled: true, schemas: ["public"] },
  auth: {
    enabled: true,
    jwt_secret: process.env.JWT_SECRET,
    publishable_key: process.env.PUBLISHABLE_KEY,
    secret_key: process.env.SECRET_KEY,
  },
});
await app.init();
await app.ensureSystemSchema();

// The driver writes to a connection that was cut meanwhile, as when a test's database is dropped, and would end us all; the
// next request opens another connection.
process.on("uncaughtException", (error) => {
  if (!error.stack?.includes("nextWrite")) {
    throw error;
  }
});

console.error = () => {}; // it prints every refused statement, and refusals are what the tests are about

createServer(async (incoming, outgoing) => {
  const chunks = [];
  for await (const chunk of incoming) {
    chunks.push(chunk);
  }
  const body = chunks.length > 0 ? Buffer.concat(chunks) : undefined;
  const request = new Request(`http://${incoming.headers.host}${incoming.url}`, {
    method: incoming.method,
    headers: Object.entries(incoming.headers).flatMap(([name, value]) => [value].flat().map((one) => [name, one])),
    body: incoming.method === "GET" || incoming.method === "HEAD" ? undefined : body,
  });
  const response = await app.server.fetch(request);
  outgoing.writeHead(response.status, Object.fromEntries(response.headers));
  outgoing.end(Buffer.from(await response.arrayBuffer()));
}).listen(Number(process.env.PORT), "127.0.0.1", () => console.log("listening"));
