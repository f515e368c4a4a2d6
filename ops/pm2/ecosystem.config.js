// For hosts that run everything under PM2: pm2 start ops/pm2/ecosystem.config.js
// Settings come from .env in the directory that PM2 is started from. PM2 watches two processes; the supervisor watches
// all the others, so PM2 must give it the time to stop them in order.
const common = {
  interpreter: "none",
  exec_mode: "fork",
  instances: 1,
  autorestart: true,
  stop_exit_codes: [78], // a fault of the configuration waits for a person
  exp_backoff_restart_delay: 200,
  env: { SPARKY_LOG_FORMAT: "json" },
};

module.exports = {
  apps: [
    { ...common, name: "sparky-webhook", script: ".venv/bin/sparky", args: "serve", kill_timeout: 30000 },
    { ...common, name: "sparky", script: ".venv/bin/sparky", args: "supervise", kill_timeout: 60000 },
  ],
};
