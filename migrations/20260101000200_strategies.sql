-- Strategies, the record of every decision, and what both cost and earned. Tables of the original system are extended in
-- place; fresh ones get the same columns.

create table if not exists public.ai_strategies (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  name text not null,
  status text not null default 'paused' check (status in ('running', 'paused', 'backtesting', 'terminated')),
  risk_profile text not null default 'balanced' check (risk_profile in ('conservative', 'balanced', 'aggressive')),
  target_assets text[] not null default array['BTCUSDT', 'ETHUSDT', 'SOLUSDT'],
  max_drawdown_percent numeric(5, 2) not null default 20.00,
  target_sharpe numeric(4, 2) default 1.60,
  leverage_max integer not null default 10,
  performance_fee_percent numeric(4, 2) not null default 20.00,
  is_prop_allocation boolean not null default false,
  is_paper_trading boolean not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

-- running_since tells one run of a row from the next: resuming it clears the engine's count of its failures.
alter table public.ai_strategies
  add column if not exists exchange text not null default 'aster',
  add column if not exists cadence_seconds numeric(8, 2) not null default 45
    check (cadence_seconds between 1 and 86400),
  add column if not exists min_confidence numeric(4, 3) not null default 0.6 check (min_confidence between 0 and 1),
  add column if not exists max_position_usd numeric(14, 2) not null default 1000 check (max_position_usd > 0),
  add column if not exists capital_usd numeric(14, 2) not null default 10000 check (capital_usd > 0),
  add column if not exists daily_llm_budget_usd numeric(14, 8) check (daily_llm_budget_usd >= 0),
  add column if not exists model text,
  add column if not exists custom_prompt text,
  add column if not exists context_intervals text[] not null default '{}'
    check (context_intervals <@ array['15m', '1h'] and cardinality(context_intervals) <= 2),
  add column if not exists running_since timestamptz,
  add column if not exists paused_reason text,
  add column if not exists paused_at timestamptz,
  add column if not exists paused_traceback text;

create index if not exists ai_strategies_user_idx on public.ai_strategies (user_id);
create index if not exists ai_strategies_running_idx on public.ai_strategies (id) where status = 'running';

create table if not exists public.ai_trade_log (
  id uuid primary key default gen_random_uuid(),
  ai_strategy_id uuid not null references public.ai_strategies (id) on delete cascade,
  user_id uuid not null references auth.users (id) on delete cascade,
  decision_json jsonb not null,
  confidence_score numeric(4, 3) check (confidence_score between 0 and 1),
  signal_action text,
  symbol text,
  size_usd numeric(14, 2),
  actual_pnl numeric(14, 2),
  reasoning text,
  created_at timestamptz not null default now()
);

alter table public.ai_trade_log
  add column if not exists reason text,
  add column if not exists is_fault boolean not null default false,
  add column if not exists suppressed text,
  add column if not exists raw_answer text,
  add column if not exists model text,
  add column if not exists request_id text,
  add column if not exists prompt_tokens integer,
  add column if not exists cached_tokens integer,
  add column if not exists completion_tokens integer,
  add column if not exists cost_usd numeric(14, 8),
  add column if not exists latency_s double precision,
  add column if not exists stop_loss_percent numeric,
  add column if not exists take_profit_percent numeric,
  add column if not exists market jsonb;

create index if not exists ai_trade_log_strategy_time_idx on public.ai_trade_log (ai_strategy_id, created_at desc);
create index if not exists ai_trade_log_user_idx on public.ai_trade_log (user_id);
create index if not exists ai_trade_log_time_idx on public.ai_trade_log (created_at desc);

-- Running totals, so that a cycle reads its equity without adding up its whole history, and so that a fill does not look like
-- an edit of the strategy's row. Paper and live are two books. The peak is kept as P&L: changing the capital moves both ends.
create table if not exists public.strategy_ledger (
  strategy_id uuid not null references public.ai_strategies (id) on delete cascade,
  is_paper boolean not null,
  realized_pnl_usd numeric(20, 8) not null default 0,
  peak_pnl_usd numeric(20, 8) not null default 0 check (peak_pnl_usd >= 0),
  updated_at timestamptz not null default now(),
  primary key (strategy_id, is_paper)
);

-- What a strategy's model calls cost per UTC day: the daily budget is checked before every call.
create table if not exists public.llm_spend (
  strategy_id uuid not null references public.ai_strategies (id) on delete cascade,
  day date not null,
  decisions integer not null default 0,
  cost_usd numeric(14, 8) not null default 0,
  primary key (strategy_id, day)
);
create index if not exists llm_spend_day_idx on public.llm_spend (day);

-- updated_at is what the engine watches; the reason of a pause ends with the pause, whoever ends it.
create or replace function public.strategy_row_changed() returns trigger
language plpgsql set search_path = '' as $$
begin
  if new.status = 'running' then
    new.paused_reason := null;
    new.paused_at := null;
    new.paused_traceback := null;
    if old.status is distinct from 'running' then
      new.running_since := clock_timestamp();
    end if;
  elsif new.status = 'paused' and old.status is distinct from 'paused' then
    new.paused_at := coalesce(new.paused_at, clock_timestamp());
  end if;
  if new is distinct from old then
    new.updated_at := clock_timestamp();
  end if;
  return new;
end
$$;

create or replace trigger strategy_row_changed before update on public.ai_strategies
  for each row execute function public.strategy_row_changed();

-- One spelling of an exchange, whoever writes it: functions, credentials and venues go by it.
create or replace function public.spell_exchange() returns trigger
language plpgsql set search_path = '' as $$
begin
  new.exchange := lower(new.exchange);
  return new;
end
$$;

create or replace trigger spell_exchange before insert or update on public.ai_strategies
  for each row execute function public.spell_exchange();

-- What people may not write holds even where somebody has granted them whole tables, as recipes for Supabase often do: a second
-- lock behind the column grants.
create or replace function public.guard_strategy() returns trigger
language plpgsql set search_path = '' as $$
declare
  v_forged text;
begin
  if current_user not in ('anon', 'authenticated') then
    return new;
  end if;
  select string_agg(n.key, ', ' order by n.key) into v_forged
  from jsonb_each(to_jsonb(new)) n
  where n.key = any (array[
      'id', 'user_id', 'performance_fee_percent', 'is_prop_allocation', 'paused_reason', 'paused_at', 'paused_traceback',
      'running_since', 'created_at', 'updated_at'
    ])
    and n.value is distinct from case
      when tg_op = 'UPDATE' then to_jsonb(old) -> n.key
      when n.key = 'performance_fee_percent' then to_jsonb(20.00)
      when n.key = 'is_prop_allocation' then to_jsonb(false)
      when n.key in ('paused_reason', 'paused_at', 'paused_traceback', 'running_since') then 'null'::jsonb
      else n.value -- whose row it is, the policy says
    end;
  if v_forged is not null then
    raise exception 'permission denied for column % of ai_strategies', v_forged using errcode = '42501';
  end if;
  return new;
end
$$;

-- By its name it runs before strategy_row_changed, which sets some of these columns itself.
create or replace trigger guard_strategy before insert or update on public.ai_strategies
  for each row execute function public.guard_strategy();
