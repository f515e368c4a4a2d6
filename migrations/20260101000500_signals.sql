-- A signal's way: the outbox, every attempt to deliver it, the request it became, and what stands above all requests.

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
  is_paper boolean not null default true,
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
create index if not exists signal_outbox_expiry_idx on public.signal_outbox (expires_at) where status = 'pending';
create index if not exists signal_outbox_status_idx on public.signal_outbox (status, seq desc) where status <> 'delivered';
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

-- One row per request that a sender made, unique by the sender's own id: the memory that gives a repeated signal its first answer.
-- status: received, submitted, filled (something may be at the venue), then booked, refused, failed or skipped.

create table if not exists public.webhook_requests (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references auth.users (id) on delete cascade,
  exchange text,
  action text,
  symbol text,
  strategy_id uuid,
  payload jsonb,
  status text,
  error_message text,
  processed_at timestamptz
);

alter table public.webhook_requests
  add column if not exists request_id text,
  add column if not exists fingerprint text,
  add column if not exists answer_status integer,
  add column if not exists answer jsonb,
  add column if not exists attempts integer not null default 1,
  add column if not exists failures integer not null default 0,
  add column if not exists failed_at timestamptz,
  add column if not exists created_at timestamptz not null default now();

-- Rows of the original system have no request_id; nulls are distinct, so they do not collide.
create unique index if not exists webhook_requests_request_key on public.webhook_requests (user_id, request_id);
create index if not exists webhook_requests_unfinished_idx on public.webhook_requests (created_at)
  where status in ('received', 'submitted', 'filled');
create index if not exists webhook_requests_failed_idx on public.webhook_requests (user_id, exchange, failed_at desc)
  where failed_at is not null;
create index if not exists webhook_requests_booked_idx on public.webhook_requests (user_id, exchange, processed_at desc)
  where status = 'booked';
create index if not exists webhook_requests_unsettled_idx on public.webhook_requests (user_id, exchange, symbol)
  where status in ('submitted', 'filled');

-- Who works on what, alone: `webhook` is the server that executes. A lease that is not renewed in time is anybody's.
create table if not exists public.leases (
  name text primary key,
  owner text not null,
  until timestamptz not null,
  taken_at timestamptz not null default clock_timestamp()
);

-- Entries are refused while a row covers them: everybody's (no user), one person's, or one strategy's. Exits never are.
create table if not exists public.kill_switches (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references auth.users (id) on delete cascade,
  strategy_id uuid references public.ai_strategies (id) on delete cascade,
  reason text,
  created_at timestamptz not null default clock_timestamp()
);
create unique index if not exists kill_switches_scope_key on public.kill_switches (
  (coalesce(user_id, '00000000-0000-0000-0000-000000000000'::uuid)),
  (coalesce(strategy_id, '00000000-0000-0000-0000-000000000000'::uuid))
);
