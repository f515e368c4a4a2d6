// For hosts that run everything under PM2: pm2 start ops/pm2/ecosystem.config.js
// Settings come from .env in the directory that PM2 is started from. PM2 watches two processes; the supervisor watches
// all the others, so PM2 must give it the time to stop them in order, and signal no process but these two.
const common = {
  interpreter: "none",
  exec_mode: "fork",
  instances: 1,
  autorestart: true,
  stop_exit_codes: [78], // a fault of the configuration waits for a person; all else is tried again, for ever
  exp_backoff_restart_delay: 200, // and up to 15 s
  max_restarts: 1_000_000_000, // without it 16 quick failures are the last; 0 would be none
  treekill: false,
  env: { SPARKY_LOG_FORMAT: "json" },
};

module.exports = {
  apps: [
    { ...common, name: "sparky-webhook", script: ".venv/bin/sparky", args: "serve", kill_timeout: 30000 },
    { ...common, name: "sparky", script: ".venv/bin/sparky", args: "supervise", kill_timeout: 60000 },
  ],
};
