-- Secrets at rest: sealed by Sparky before they come here (engine/vault.py), recognised here by `enc:v1:<key>:`, never opened here.

-- A sealed secret's hash comes with it or stays: the hash of the sealed text would find nobody. And sealing an old secret anew
-- does not make it the newest.
create or replace function public.hash_webhook_secret() returns trigger
language plpgsql set search_path = '' as $$
begin
  if tg_op = 'INSERT' or current_setting('sparky.resealing', true) is distinct from 'on' then
    new.updated_at := clock_timestamp();
  end if;
  if new.webhook_secret like 'enc:v1:%' then
    return new;
  end if;
  if (tg_op = 'INSERT' and new.webhook_secret_sha256 is null) or (
    tg_op = 'UPDATE' and new.webhook_secret is distinct from old.webhook_secret
    and new.webhook_secret_sha256 is not distinct from old.webhook_secret_sha256
  ) then
    new.webhook_secret_sha256 := encode(sha256(convert_to(new.webhook_secret, 'UTF8')), 'hex');
  end if;
  return new;
end
$$;

-- Keeps what `p_values` does not name. Its keys: api_key, api_secret, passphrase, webhook_secret with
-- webhook_secret_sha256, private_key, user_address, signer_address, label, account_id.
create or replace function public.put_credentials(
  p_user_id uuid, p_exchange text, p_environment text, p_values jsonb
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_extra jsonb := coalesce((
    select jsonb_object_agg(e.key, e.value) from jsonb_each(p_values) e
    where e.key in ('private_key', 'user_address', 'signer_address', 'api_version')
  ), '{}');
  v_exchange text := coalesce((
    select c.exchange from public.bot_credentials c
    where c.user_id = p_user_id and lower(c.exchange) = lower(p_exchange) and c.environment = p_environment limit 1
  ), lower(p_exchange));
begin
  insert into public.bot_credentials as c (
    user_id, exchange, environment, label, account_id, api_key, api_secret, passphrase, webhook_secret,
    webhook_secret_sha256, extra_metadata
  ) values (
    p_user_id, v_exchange, p_environment, p_values ->> 'label', p_values ->> 'account_id', p_values ->> 'api_key',
    p_values ->> 'api_secret', p_values ->> 'passphrase', p_values ->> 'webhook_secret',
    p_values ->> 'webhook_secret_sha256', nullif(v_extra, '{}')
  ) on conflict (user_id, exchange, environment) do update set
    label = coalesce(excluded.label, c.label),
    account_id = coalesce(excluded.account_id, c.account_id),
    api_key = coalesce(excluded.api_key, c.api_key),
    api_secret = coalesce(excluded.api_secret, c.api_secret),
    passphrase = coalesce(excluded.passphrase, c.passphrase),
    webhook_secret = coalesce(excluded.webhook_secret, c.webhook_secret),
    webhook_secret_sha256 = case
      when excluded.webhook_secret is null then c.webhook_secret_sha256 else excluded.webhook_secret_sha256
    end,
    extra_metadata = nullif(coalesce(c.extra_metadata, '{}') || v_extra, '{}');
  return to_jsonb(true);
end
$$;

-- Every secret as it is stored, one entry per value, for those who hold the key.
create or replace function public.stored_secrets(p_user_id uuid default null) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'credentials_id', c.id, 'user_id', c.user_id, 'exchange', c.exchange, 'field', f.field, 'stored', f.stored
  ) order by c.id, f.field), '[]')
  from public.bot_credentials c
  cross join lateral (values
    ('api_key', c.api_key), ('api_secret', c.api_secret), ('passphrase', c.passphrase), ('webhook_secret', c.webhook_secret),
    ('private_key', c.extra_metadata ->> 'private_key')
  ) f (field, stored)
  where f.stored <> '' and (p_user_id is null or c.user_id = p_user_id)
$$;

-- Puts another sealing of the same secret in place of `p_before`; false if somebody was quicker to change it.
create or replace function public.reseal_secret(p_credentials_id uuid, p_field text, p_before text, p_after text) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  if p_field not in ('api_key', 'api_secret', 'passphrase', 'webhook_secret', 'private_key') then
    raise exception 'there is no secret called %', p_field using errcode = 'SK400';
  end if;
  perform set_config('sparky.resealing', 'on', true);
  update public.bot_credentials c set
    api_key = case when p_field = 'api_key' then p_after else c.api_key end,
    api_secret = case when p_field = 'api_secret' then p_after else c.api_secret end,
    passphrase = case when p_field = 'passphrase' then p_after else c.passphrase end,
    webhook_secret = case when p_field = 'webhook_secret' then p_after else c.webhook_secret end,
    extra_metadata = case
      when p_field = 'private_key' then jsonb_set(c.extra_metadata, '{private_key}', to_jsonb(p_after)) else c.extra_metadata
    end
  where c.id = p_credentials_id and p_before = case p_field
    when 'api_key' then c.api_key
    when 'api_secret' then c.api_secret
    when 'passphrase' then c.passphrase
    when 'webhook_secret' then c.webhook_secret
    else c.extra_metadata ->> 'private_key'
  end;
  return to_jsonb(found);
end
$$;

-- Which credentials there are, and of each secret only how it is kept: 'clear', or the name of the key that sealed it.
create or replace function public.list_credentials() returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'id', c.id, 'user_id', c.user_id, 'email', u.email, 'exchange', c.exchange, 'environment', c.environment,
    'label', c.label, 'last_tested', c.last_tested, 'updated_at', c.updated_at,
    'secrets', coalesce((
      select jsonb_object_agg(
        s.value ->> 'field',
        case when s.value ->> 'stored' like 'enc:v1:%' then split_part(s.value ->> 'stored', ':', 3) else 'clear' end
      )
      from jsonb_array_elements(public.stored_secrets(c.user_id)) s where s.value ->> 'credentials_id' = c.id::text
    ), '{}')
  ) order by u.email, c.exchange, c.environment), '[]')
  from public.bot_credentials c left join auth.users u on u.id = c.user_id
$$;

drop function if exists public.set_webhook_secret(uuid, text);

-- How well this database is guarded, as its catalogue tells: for `sparky doctor`.
create or replace function public.guard_report() returns jsonb
language sql stable security definer set search_path = '' as $$
  with ours as (
    select c.oid, c.relname::text as name, c.relrowsecurity from pg_catalog.pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and c.relname = any (array[
      'ai_strategies', 'ai_trade_log', 'strategy_ledger', 'llm_spend', 'bot_credentials', 'positions', 'trades', 'fills',
      'trade_settings_exchange', 'webhook_requests', 'signal_outbox', 'signal_attempts', 'sparky_migrations'
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

-- A terminated strategy is over: its owner may not wake it by an update past set_strategy_status.
drop policy if exists sparky_owner_updates on public.ai_strategies;
create policy sparky_owner_updates on public.ai_strategies for update to authenticated
  using (user_id = (select auth.uid()) and status <> 'terminated') with check (user_id = (select auth.uid()));

-- Supabase gives every new function and table to anon and authenticated by default.
do $$
declare
  v_function regprocedure;
begin
  for v_function in
    select p.oid::regprocedure from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname = any (array[
      'hash_webhook_secret', 'put_credentials', 'stored_secrets', 'reseal_secret', 'list_credentials', 'guard_report', 'health'
    ])
  loop
    execute format('revoke execute on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
  if to_regclass('public.sparky_migrations') is not null then
    execute 'revoke all on public.sparky_migrations from public, anon, authenticated';
  end if;
end
$$;

notify pgrst, 'reload schema';
