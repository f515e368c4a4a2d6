-- Who may do what. People (role authenticated, through Supabase) manage their own strategies and read their own records;
-- the service role does everything; anon sees nothing. Deleting a strategy is setting its status to terminated, since its
-- records must outlive it. Supabase gives every new table, function and sequence to anon and authenticated by default.

do $$
declare
  v_table text;
begin
  foreach v_table in array array[
    'ai_strategies', 'ai_trade_log', 'strategy_ledger', 'llm_spend', 'bot_credentials', 'positions', 'trades', 'fills',
    'trade_settings_exchange', 'equity_points', 'reconciliation_differences', 'signal_outbox', 'signal_attempts',
    'webhook_requests', 'leases', 'kill_switches'
  ] loop
    execute format('alter table public.%I enable row level security', v_table);
    execute format('revoke all on public.%I from public, anon, authenticated', v_table);
    execute format('grant select, insert, update, delete on public.%I to service_role', v_table);
    execute format('drop policy if exists sparky_service on public.%I', v_table);
    execute format('create policy sparky_service on public.%I to service_role using (true) with check (true)', v_table);
  end loop;

  foreach v_table in array array[
    'ai_strategies', 'ai_trade_log', 'bot_credentials', 'positions', 'trades', 'trade_settings_exchange'
  ] loop
    execute format('drop policy if exists sparky_owner_reads on public.%I', v_table);
    execute format(
      'create policy sparky_owner_reads on public.%I for select to authenticated using (user_id = (select auth.uid()))', v_table
    );
  end loop;

  foreach v_table in array array['ai_strategies', 'trade_settings_exchange', 'bot_credentials'] loop
    execute format('drop policy if exists sparky_owner_inserts on public.%I', v_table);
    execute format(
      'create policy sparky_owner_inserts on public.%I for insert to authenticated with check (user_id = (select auth.uid()))',
      v_table
    );
    execute format('drop policy if exists sparky_owner_updates on public.%I', v_table);
  end loop;

  foreach v_table in array array['trade_settings_exchange', 'bot_credentials'] loop
    execute format(
      'create policy sparky_owner_updates on public.%I for update to authenticated '
      'using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()))', v_table
    );
  end loop;
end
$$;

-- A terminated strategy is over: its owner may not wake it by an update past set_strategy_status.
create policy sparky_owner_updates on public.ai_strategies for update to authenticated
  using (user_id = (select auth.uid()) and status <> 'terminated') with check (user_id = (select auth.uid()));

grant select on public.ai_strategies, public.ai_trade_log, public.positions, public.trades, public.trade_settings_exchange
  to authenticated;

-- Columns that people may write: not the fee they owe, not the owner, not why or when the engine paused them.
grant insert (
  user_id, name, status, risk_profile, target_assets, exchange, is_paper_trading, cadence_seconds, min_confidence,
  max_drawdown_percent, target_sharpe, leverage_max, max_position_usd, capital_usd, daily_llm_budget_usd, model, custom_prompt,
  context_intervals
) on public.ai_strategies to authenticated;
grant update (
  name, status, risk_profile, target_assets, exchange, is_paper_trading, cadence_seconds, min_confidence,
  max_drawdown_percent, target_sharpe, leverage_max, max_position_usd, capital_usd, daily_llm_budget_usd, model, custom_prompt,
  context_intervals
) on public.ai_strategies to authenticated;

grant insert, update on public.trade_settings_exchange to authenticated;

-- Secrets are written by their owner and read by nobody but the service role.
grant select (id, user_id, label, exchange, environment, account_id, last_tested, created_at, updated_at)
  on public.bot_credentials to authenticated;
grant insert (
  user_id, label, exchange, environment, account_id, api_key, api_secret, passphrase, webhook_secret, extra_metadata
) on public.bot_credentials to authenticated;
grant update (label, account_id, api_key, api_secret, passphrase, webhook_secret, extra_metadata)
  on public.bot_credentials to authenticated;

-- The functions run with their owner's rights, so only the service role may call them. Trigger functions and helpers as well:
-- what nobody may call cannot be misused.
do $$
declare
  v_function regprocedure;
begin
  for v_function in
    select p.oid::regprocedure from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname = any (array[
      'strategy_row_changed', 'spell_exchange', 'guard_strategy', 'hash_webhook_secret', 'webhook_users', 'webhook_secret',
      'webhook_secrets', 'venue_credentials', 'put_credentials', 'stored_secrets', 'reseal_secret',
      'list_credentials', 'round_half_even', 'position_side', 'position_json', 'open_positions', 'strategy_figures',
      'running_strategies', 'strategy_context', 'suppression', 'record_decision', 'recorded_decision', 'queue_signal',
      'pause_strategy', 'claim_signals', 'expire_signals', 'settle_signals', 'outbox_pending',
      'release_signals', 'retry_signal', 'drop_signal', 'set_kill_switch', 'kill_switches', 'killed_by',
      'own_positions', 'consecutive_failures', 'portfolio', 'hold_lease', 'release_lease', 'has_lease',
      'begin_request', 'other_sides', 'begin_execution', 'submit_request', 'finish_request', 'unfinished_requests',
      'book_fill', 'lock_book', 'insert_fill', 'position_of_fill', 'book_open', 'open_position', 'increase_position',
      'book_close', 'insert_trade', 'answer_request', 'booked_fill', 'book_protection', 'value_positions',
      'mark_positions', 'update_ledger', 'record_equity', 'equity_series', 'live_accounts', 'report_reconciliation',
      'ensure_user', 'user_of', 'create_strategy', 'list_strategies', 'get_strategy', 'set_strategy_status',
      'delete_strategy', 'strategy_overview', 'decisions', 'decision_story', 'signals', 'signal',
      'trades', 'health', 'guard_report'
    ])
  loop
    execute format('revoke execute on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end
$$;

-- Sequences of our tables: open to people by Supabase's defaults, and no concern of theirs.
do $$
declare
  v_sequence regclass;
begin
  for v_sequence in
    select s.oid::regclass from pg_catalog.pg_class s
    join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_class'::regclass and d.objid = s.oid and d.deptype in ('a', 'i')
    join pg_catalog.pg_class t on t.oid = d.refobjid and t.relnamespace = 'public'::regnamespace
    where s.relkind = 'S' and t.relname = any (array['fills', 'signal_outbox', 'signal_attempts'])
  loop
    execute format('revoke all on sequence %s from public, anon, authenticated', v_sequence);
    execute format('grant usage, select on sequence %s to service_role', v_sequence);
  end loop;
end
$$;

-- The record of `sparky migrate`; `supabase db push` keeps one of its own.
do $$
begin
  if to_regclass('public.sparky_migrations') is not null then
    execute 'revoke all on public.sparky_migrations from public, anon, authenticated';
  end if;
end
$$;

grant usage on schema public to anon, authenticated, service_role;

notify pgrst, 'reload schema';
