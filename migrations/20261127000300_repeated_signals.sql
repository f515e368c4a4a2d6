-- Signals that their sender gave no id are known by their body: ids that begin with body/ are derived from it.

-- is_answered: the end was told on a connection that stood. is_put_off: the sender was told to send the signal again.
alter table public.webhook_requests add column if not exists is_answered boolean not null default false;
alter table public.webhook_requests add column if not exists is_put_off boolean not null default false;

create index if not exists webhook_requests_derived_idx on public.webhook_requests (user_id, fingerprint)
  where starts_with(request_id, 'body/');

-- The id of the request that a body without an id repeats, null when there is none. p_derived_id is the id of a body with a
-- moment of its own. Without one, a request is repeated that is under way (also one that an older release began), or that ended
-- within ten minutes and was not answered, but none that came less than p_least_s ago and was not told to come back.
create or replace function public.repeated_request(
  p_user_id uuid, p_fingerprint text, p_derived_id text, p_least_s double precision
) returns jsonb
language sql stable security definer set search_path = '' as $$
  select to_jsonb((
    select c.request_id from (
      select r.request_id, r.created_at, r.is_put_off from public.webhook_requests r
      where r.user_id = p_user_id and r.fingerprint = p_fingerprint and starts_with(r.request_id, 'body/')
        and not r.is_answered and r.processed_at > clock_timestamp() - interval '10 minutes'
      union all
      select r.request_id, r.created_at, r.is_put_off from public.webhook_requests r
      where r.user_id = p_user_id and r.fingerprint = p_fingerprint and r.status in ('received', 'submitted', 'filled')
      union all
      select r.request_id, r.created_at, true from public.webhook_requests r
      where r.user_id = p_user_id and r.request_id = p_derived_id and r.created_at > clock_timestamp() - interval '2 hours'
    ) c
    where c.is_put_off or p_derived_id is not null or c.created_at < clock_timestamp() - make_interval(secs => p_least_s)
    order by c.created_at desc limit 1
  ))
$$;

-- Notes what the sender of a request was told: its end (p_is_final), or to come back. Once it was told to come back, only the
-- answer to its repetition ends that.
create or replace function public.note_answered(
  p_request_id text, p_user_id uuid, p_is_final boolean, p_is_repetition boolean
) returns jsonb
language sql security definer set search_path = '' as $$
  update public.webhook_requests r
    set is_put_off = r.is_put_off or not p_is_final,
        is_answered = r.is_answered or (p_is_final and (p_is_repetition or not r.is_put_off))
    where r.user_id = p_user_id and r.request_id = p_request_id;
  select 'true'::jsonb
$$;

do $$
declare
  v_function regprocedure;
begin
  foreach v_function in array array[
    'public.repeated_request(uuid, text, text, double precision)', 'public.note_answered(text, uuid, boolean, boolean)'
  ]::regprocedure[]
  loop
    execute format('revoke execute on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end
$$;

notify pgrst, 'reload schema';
