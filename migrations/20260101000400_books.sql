-- The books: positions, trades, fills, equity over time, and what they and the venues' own records disagree about.

create table if not exists public.positions (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  exchange text not null,
  symbol text not null,
  side text not null,
  entry_price numeric(20, 8) not null,
  entry_time timestamptz not null default now(),
  quantity numeric(20, 8) not null,
  position_size_usd numeric(20, 8),
  stop_loss_price numeric(20, 8),
  stop_loss_percent numeric,
  take_profit_price numeric(20, 8),
  take_profit_percent numeric,
  entry_order_id text,
  stop_loss_order_id text,
  take_profit_order_id text,
  current_price numeric(20, 8),
  unrealized_pnl_usd numeric(20, 8),
  unrealized_pnl_percent numeric,
  last_price_update timestamptz,
  notes text,
  asset_class text,
  strategy_id uuid
);

-- Protective orders at a venue are found and cancelled by their client ids.
alter table public.positions
  add column if not exists is_paper boolean not null default false,
  add column if not exists fees_usd numeric(20, 8) not null default 0,
  add column if not exists cost_usd numeric(28, 8),
  add column if not exists leverage integer not null default 1,
  add column if not exists decision_id uuid,
  add column if not exists entry_client_order_id text,
  add column if not exists entry_market_time_ms bigint,
  add column if not exists stop_loss_client_order_id text,
  add column if not exists take_profit_client_order_id text,
  add column if not exists created_at timestamptz not null default now();

-- The original allowed one position per user and symbol; here each strategy holds its own. Only that rule goes, no row does.
do $$
declare
  v_name text;
begin
  for v_name in
    select c.conname from pg_catalog.pg_constraint c
    where c.conrelid = 'public.positions'::regclass and c.contype = 'u' and (
      select array_agg(a.attname::text order by a.attname) from pg_catalog.pg_attribute a
      where a.attrelid = c.conrelid and a.attnum = any (c.conkey)
    ) = array['symbol', 'user_id']
  loop
    execute format('alter table public.positions drop constraint %I', v_name);
  end loop;
  for v_name in
    select i.indexrelid::regclass::text from pg_catalog.pg_index i
    where i.indrelid = 'public.positions'::regclass and i.indisunique and not i.indisprimary and i.indpred is null and (
      select array_agg(a.attname::text order by a.attname) from pg_catalog.pg_attribute a
      where a.attrelid = i.indrelid and a.attnum = any (i.indkey)
    ) = array['symbol', 'user_id']
  loop
    execute 'drop index ' || v_name;
  end loop;
end
$$;

create unique index if not exists positions_one_per_strategy_key on public.positions
  (user_id, exchange, symbol, (coalesce(strategy_id, '00000000-0000-0000-0000-000000000000'::uuid)), is_paper);
create index if not exists positions_strategy_idx on public.positions (strategy_id);
-- Rows of the original system may spell an exchange in any way; ours are in small letters.
create index if not exists positions_mark_idx on public.positions (lower(exchange), symbol);
create index if not exists positions_user_idx on public.positions (user_id, lower(exchange), symbol);

create table if not exists public.trades (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  exchange text not null,
  symbol text not null,
  side text not null,
  entry_price numeric(20, 8) not null,
  entry_time timestamptz not null,
  exit_price numeric(20, 8) not null,
  exit_time timestamptz not null default now(),
  quantity numeric(20, 8) not null,
  position_size_usd numeric(20, 8),
  stop_loss_price numeric(20, 8),
  take_profit_price numeric(20, 8),
  pnl_usd numeric(20, 8) not null,
  pnl_percent numeric,
  is_winner boolean,
  exit_reason text,
  order_id text,
  notes text,
  strategy_id uuid
);

alter table public.trades
  add column if not exists is_paper boolean not null default false,
  add column if not exists fees_usd numeric(20, 8) not null default 0,
  add column if not exists leverage integer not null default 1,
  add column if not exists decision_id uuid,
  add column if not exists entry_order_id text,
  add column if not exists entry_client_order_id text,
  add column if not exists client_order_id text,
  add column if not exists request_id text,
  add column if not exists entry_market_time_ms bigint,
  add column if not exists exit_market_time_ms bigint;

create index if not exists trades_user_exit_idx on public.trades (user_id, lower(exchange), exit_time desc);
create index if not exists trades_strategy_exit_idx on public.trades (strategy_id, exit_time desc);
create index if not exists trades_user_entry_idx on public.trades (user_id, lower(exchange), entry_time desc);
create index if not exists trades_exit_idx on public.trades (exit_time desc);
create index if not exists trades_decision_idx on public.trades (decision_id);
create index if not exists trades_request_idx on public.trades (request_id);

-- Every execution as the venue told it; one of each kind per request at most, which makes booking repeatable. An undo
-- closes an entry whose protection failed.
create table if not exists public.fills (
  id bigint generated always as identity primary key,
  user_id uuid not null references auth.users (id) on delete cascade,
  request_id text not null,
  kind text not null check (kind in ('open', 'close', 'undo')),
  strategy_id uuid,
  exchange text not null,
  symbol text not null,
  side text not null check (side in ('LONG', 'SHORT')),
  quantity numeric(20, 8) not null check (quantity > 0),
  price numeric(20, 8) not null check (price > 0),
  fee_usd numeric(20, 8) not null,
  leverage integer not null,
  is_paper boolean not null,
  order_id text,
  client_order_id text,
  market_time_ms bigint,
  position_id uuid,
  trade_id uuid,
  pnl_usd numeric(20, 8),
  pnl_percent numeric,
  created_at timestamptz not null default clock_timestamp(),
  unique (user_id, request_id, kind)
);
create index if not exists fills_strategy_idx on public.fills (strategy_id, id);

-- What a person allows on one exchange; null or 0 is unlimited.
create table if not exists public.trade_settings_exchange (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  exchange text not null,
  kill_switch boolean not null default false,
  allow_weekends boolean not null default true,
  max_signal_age_sec integer,
  max_daily_loss_usd numeric(14, 2),
  max_loss_per_week_usd numeric(14, 2),
  max_trades_per_week integer,
  max_consecutive_failures integer,
  max_concurrent_positions integer,
  max_position_size_usd numeric(14, 2),
  unique (user_id, exchange)
);
create table if not exists public.equity_points (
  strategy_id uuid not null references public.ai_strategies (id) on delete cascade,
  is_paper boolean not null,
  at timestamptz not null default clock_timestamp(),
  equity_usd numeric(20, 8) not null,
  realized_pnl_usd numeric(20, 8) not null,
  unrealized_pnl_usd numeric(20, 8) not null,
  drawdown_percent numeric not null,
  primary key (strategy_id, is_paper, at)
);

-- Net quantities in the base asset, negative when short. A difference is resolved when the two agree again.
create table if not exists public.reconciliation_differences (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  exchange text not null,
  symbol text not null,
  booked numeric(28, 8) not null,
  at_venue numeric(28, 8) not null,
  first_seen_at timestamptz not null default clock_timestamp(),
  last_seen_at timestamptz not null default clock_timestamp(),
  resolved_at timestamptz
);
create unique index if not exists reconciliation_open_key on public.reconciliation_differences (user_id, exchange, symbol)
  where resolved_at is null;
