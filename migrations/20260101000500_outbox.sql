-- Signals on their way to the webhook server: written with the decision, leased by a dispatcher, ended exactly once, never deleted.

create table if not exists public.signal_outbox (
  id uuid primary key references public.ai_trade_log (id) on delete cascade,
  seq bigint generated always as identity unique,
  user_id uuid not null references auth.users (id) on delete cascade,
  strategy_id uuid not null references public.ai_strategies (id) on delete cascade,
  exchange text not null,
  symbol text not null,
  action text not null check (action in ('BUY', 'SELL', 'CLOSE')),
  payload jsonb not null,
  status text not null default 'pending' check (status in ('pending', 'delivered', 'refused', 'expired', 'dead')),
  attempts integer not null default 0,
  next_attempt_at timestamptz not null default now(),
  lease_owner text,
  leased_at timestamptz,
  lease_until timestamptz,
  last_status integer,
  last_reason text,
  created_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null,
  settled_at timestamptz
);

-- Only open signals are ever searched; a lane is one strategy's symbol.
create index if not exists signal_outbox_lane_idx on public.signal_outbox (strategy_id, symbol, seq) where status = 'pending';
create index if not exists signal_outbox_due_idx on public.signal_outbox (seq) where status = 'pending';
create index if not exists signal_outbox_strategy_idx on public.signal_outbox (strategy_id, seq desc);

create table if not exists public.signal_attempts (
  id bigint generated always as identity primary key,
  signal_id uuid not null references public.signal_outbox (id) on delete cascade,
  attempt integer not null,
  owner text,
  outcome text not null check (outcome in ('delivered', 'refused', 'expired', 'dead', 'retry')),
  status integer,
  reason text,
  started_at timestamptz,
  ended_at timestamptz not null default clock_timestamp()
);
create index if not exists signal_attempts_signal_idx on public.signal_attempts (signal_id, id);
