-- Credentials of venues and webhook secrets: kept, found and sealed anew. Sparky seals them before they come here
-- (engine/platform/encryption.py); a sealed one is recognised here by `enc:v1:<key>:` and never opened here.

-- A webhook that names no user is matched by the hash of its secret, so that no query ever carries the secret itself. A
-- sealed secret's hash comes with it or stays: the hash of the sealed text would find nobody. And sealing an old secret
-- anew does not make it the newest.
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

-- Null when nobody, or more than one person, has this secret: an ambiguous proof proves nothing.
create or replace function public.user_by_secret_digest(p_secret_sha256 text) returns jsonb
language sql stable security definer set search_path = '' as $$
  select case count(distinct c.user_id) when 1 then to_jsonb(min(c.user_id::text)) end
  from public.bot_credentials c
  where c.exchange = 'webhook' and c.webhook_secret <> '' and c.webhook_secret_sha256 = lower(p_secret_sha256)
$$;

-- The newest webhook secret of a person, or null.
create or replace function public.webhook_secret(p_user_id uuid) returns jsonb
language sql stable security definer set search_path = '' as $$
  select to_jsonb(c.webhook_secret) from public.bot_credentials c
  where c.user_id = p_user_id and c.exchange = 'webhook' and c.webhook_secret <> ''
  order by c.updated_at desc, c.id limit 1
$$;

-- All of them, newest first.
create or replace function public.webhook_secrets(p_user_id uuid) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(c.webhook_secret order by c.updated_at desc, c.id), '[]') from public.bot_credentials c
  where c.user_id = p_user_id and c.exchange = 'webhook' and c.webhook_secret <> ''
$$;

-- Those of an exchange; production before any other environment.
create or replace function public.venue_credentials(p_user_id uuid, p_exchange text) returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object(
    'environment', c.environment,
    'api_key', c.api_key,
    'api_secret', c.api_secret,
    'passphrase', c.passphrase,
    'user_address', c.extra_metadata ->> 'user_address',
    'signer_address', c.extra_metadata ->> 'signer_address',
    'private_key', c.extra_metadata ->> 'private_key'
  )
  from public.bot_credentials c
  where c.user_id = p_user_id and lower(c.exchange) = lower(p_exchange)
  order by (c.environment = 'production') desc, c.updated_at desc, c.id limit 1
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

revoke execute on function
  public.hash_webhook_secret, public.user_by_secret_digest, public.webhook_secret, public.webhook_secrets, public.venue_credentials,
  public.put_credentials, public.list_credentials, public.stored_secrets, public.reseal_secret
  from public, anon, authenticated;
grant execute on function
  public.hash_webhook_secret, public.user_by_secret_digest, public.webhook_secret, public.webhook_secrets, public.venue_credentials,
  public.put_credentials, public.list_credentials, public.stored_secrets, public.reseal_secret
  to service_role;
