-- How the database is: which schema it has, whether it can be written, and how well it is guarded. For `sparky doctor`.

-- `supabase db push` keeps its own record of what ran; and PostgREST runs a stable function in a read-only transaction, so
-- that transaction_read_only would always say true there.
create or replace function public.health() returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  v_own text[] := '{}';
  v_pushed text[] := '{}';
begin
  if to_regclass('public.sparky_migrations') is not null then
    execute 'select coalesce(array_agg(name), ''{}'') from public.sparky_migrations' into v_own;
  end if;
  if to_regclass('supabase_migrations.schema_migrations') is not null then
    execute 'select coalesce(array_agg(version || ''_'' || name || ''.sql''), ''{}'') '
      'from supabase_migrations.schema_migrations' into v_pushed;
  end if;
  return jsonb_build_object(
    'version', current_setting('server_version'),
    'migrations', (
      select coalesce(jsonb_agg(distinct m.name order by m.name), '[]') from unnest(v_own || v_pushed) m (name)
    ),
    'now', clock_timestamp(),
    'read_only', pg_is_in_recovery() or current_setting('default_transaction_read_only')::boolean
  );
end
$$;

-- How well this database is guarded, as its catalogue tells.
create or replace function public.guard_report() returns jsonb
language sql stable security definer set search_path = '' as $$
  with ours as (
    select c.oid, c.relname::text as name, c.relrowsecurity from pg_catalog.pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and c.relname = any (array[
      'ai_strategies', 'ai_trade_log', 'strategy_ledger', 'llm_spend', 'bot_credentials', 'positions', 'trades', 'fills',
      'trade_settings_exchange', 'webhook_requests', 'signal_outbox', 'signal_attempts', 'equity_points',
      'reconciliation_differences', 'leases', 'kill_switches', 'sparky_migrations'
    ])
  )
  select jsonb_build_object(
    'without_row_level_security', coalesce((select jsonb_agg(o.name order by o.name) from ours o where not o.relrowsecurity), '[]'),
    'open_to_people', coalesce((
      select jsonb_agg(distinct p.proname order by p.proname) from pg_catalog.pg_proc p
      where p.pronamespace = 'public'::regnamespace and p.prosecdef and p.proconfig @> array['search_path=""']
        and (has_function_privilege('anon', p.oid, 'execute') or has_function_privilege('authenticated', p.oid, 'execute'))
    ), '[]'),
    'readable_by_anon', coalesce((
      select jsonb_agg(o.name order by o.name) from ours o
      where o.name <> 'sparky_migrations' and has_table_privilege('anon', o.oid, 'select')
    ), '[]'),
    'secrets', coalesce((
      select jsonb_object_agg(k.kept, k.number) from (
        select case when s.value ->> 'stored' like 'enc:v1:%' then split_part(s.value ->> 'stored', ':', 3) else 'clear' end
            as kept, count(*) as number
        from jsonb_array_elements(public.stored_secrets()) s group by 1
      ) k
    ), '{}')
  )
$$;
