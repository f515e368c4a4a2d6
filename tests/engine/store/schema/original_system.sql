-- The original system's tables with a row in each, as a project may have them before Sparky's first migration.
create schema auth;
create table auth.users (id uuid primary key, email text, encrypted_password text, created_at timestamptz default now());
create function auth.uid() returns uuid language sql stable as $$ select null::uuid $$;

create table public.ai_strategies (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  name text not null,
  status text not null default 'paused' check (status in ('running', 'paused', 'backtesting', 'terminated')),
  risk_profile text not null default 'balanced' check (risk_profile in ('conservative', 'balanced', 'aggressive')),
  target_assets text[] not null default '{BTCUSDT,ETHUSDT,SOLUSDT}',
  max_drawdown_percent numeric(5, 2) default 20.00,
  target_sharpe numeric(4, 2) default 1.60,
  leverage_max int default 10,
  performance_fee_percent numeric(4, 2) default 20.00,
  is_prop_allocation boolean default false,
  is_paper_trading boolean default false,
  created_at timestamptz default now(),
  updated_at timestamptz default now()
);
create table public.ai_trade_log (
  id uuid primary key default gen_random_uuid(),
  ai_strategy_id uuid references public.ai_strategies (id) on delete cascade,
  user_id uuid references auth.users (id) on delete cascade,
  decision_json jsonb not null,
  confidence_score numeric(4, 3) check (confidence_score >= 0 and confidence_score <= 1),
  signal_action text,
  symbol text,
  size_usd numeric(14, 2),
  actual_pnl numeric(14, 2),
  reasoning text,
  created_at timestamptz default now()
);
create table public.bot_credentials (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references auth.users (id) on delete cascade,
  label text, exchange text not null, environment text default 'production', account_id text, api_key text, api_secret text,
  passphrase text, webhook_secret text, extra_metadata jsonb, last_tested timestamptz,
  unique (user_id, exchange, environment)
);
create table public.positions (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references auth.users (id) on delete cascade,
  exchange text, symbol text not null, side text not null, entry_price numeric, entry_time timestamptz, quantity numeric,
  position_size_usd numeric, stop_loss_price numeric, stop_loss_percent numeric, take_profit_price numeric,
  take_profit_percent numeric, entry_order_id text, stop_loss_order_id text, take_profit_order_id text, current_price numeric,
  unrealized_pnl_usd numeric, unrealized_pnl_percent numeric, last_price_update timestamptz, notes text, asset_class text,
  strategy_id uuid,
  unique (user_id, symbol)
);
create table public.trades (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references auth.users (id) on delete cascade,
  exchange text, symbol text not null, side text not null, entry_price numeric, entry_time timestamptz, exit_price numeric,
  exit_time timestamptz, quantity numeric, position_size_usd numeric, stop_loss_price numeric, take_profit_price numeric,
  pnl_usd numeric, pnl_percent numeric, is_winner boolean, exit_reason text, order_id text, notes text, strategy_id uuid
);
create table public.trade_settings_exchange (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references auth.users (id) on delete cascade,
  exchange text, kill_switch boolean default false, allow_weekends boolean default false, max_signal_age_sec int,
  max_daily_loss_usd numeric, max_loss_per_week_usd numeric, max_trades_per_week int, max_consecutive_failures int,
  max_concurrent_positions int, max_position_size_usd numeric
);
create table public.webhook_requests (
  id uuid primary key default gen_random_uuid(),
  user_id uuid, exchange text, action text, symbol text, strategy_id uuid, payload jsonb, status text, error_message text,
  processed_at timestamptz
);

insert into auth.users values ('11111111-1111-1111-1111-111111111111', 'old@example.org', 'x');
insert into public.ai_strategies (id, user_id, name, status)
  values ('22222222-2222-2222-2222-222222222222', '11111111-1111-1111-1111-111111111111', 'Old One', 'running');
insert into public.ai_trade_log (ai_strategy_id, user_id, decision_json, confidence_score, signal_action, symbol)
  values ('22222222-2222-2222-2222-222222222222', '11111111-1111-1111-1111-111111111111', '{"action": "LONG"}', 0.5, 'LONG', 'BTCUSDT');
insert into public.bot_credentials (user_id, exchange, webhook_secret)
  values ('11111111-1111-1111-1111-111111111111', 'webhook', 'old-secret');
insert into public.positions (user_id, exchange, symbol, side, entry_price, entry_time, quantity, position_size_usd, strategy_id)
  values ('11111111-1111-1111-1111-111111111111', 'aster', 'BTCUSDT', 'BUY', 20000.5, now(), 0.01, 200.01,
          '22222222-2222-2222-2222-222222222222');
insert into public.trades (user_id, exchange, symbol, side, entry_price, entry_time, exit_price, exit_time, quantity, pnl_usd, strategy_id)
  values ('11111111-1111-1111-1111-111111111111', 'aster', 'ETHUSDT', 'SELL', 2000, now(), 1900, now(), 1, 100.25,
          '22222222-2222-2222-2222-222222222222');
insert into public.trade_settings_exchange (user_id, exchange, max_position_size_usd)
  values ('11111111-1111-1111-1111-111111111111', 'aster', 600);
insert into public.webhook_requests (user_id, exchange, action, symbol, payload, status)
  values ('11111111-1111-1111-1111-111111111111', 'aster', 'buy', 'BTCUSDT', '{}', 'received');
