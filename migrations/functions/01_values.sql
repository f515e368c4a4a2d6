-- Numbers, sides and texts as every other function understands them.

-- Banker's rounding, as Python's Decimal does it; round() goes away from zero.
create or replace function public.round_half_even(p_value numeric, p_places integer) returns numeric
language sql immutable strict set search_path = '' as $$
  select case
    when abs(p_value * 10::numeric ^ p_places - trunc(p_value * 10::numeric ^ p_places)) = 0.5
      and trunc(p_value * 10::numeric ^ p_places) % 2 = 0
    then trunc(p_value, p_places)
    else round(p_value, p_places)
  end
$$;

-- The number, or null for NaN and infinity.
create or replace function public.finite_or_null(p_value numeric) returns numeric
language sql immutable strict set search_path = '' as $$
  select case when p_value > '-Infinity' and p_value < 'Infinity' then p_value end
$$;

-- Division to 28 significant digits, half-even, as `engine.domain.decimals.quotient` does it; PostgreSQL's own ends after 16.
create or replace function public.quotient(p_dividend numeric, p_divisor numeric) returns numeric
language plpgsql immutable strict set search_path = '' as $$
declare
  v_value numeric := p_dividend / p_divisor;
  v_places integer := 28;
begin
  if v_value = 0 or public.finite_or_null(v_value) is null then
    return v_value;
  end if;
  for v_time in 1..2 loop -- the first value says where the digits begin, and has too few of them
    v_places := 28 - case when abs(v_value) >= 1 then length(trunc(abs(v_value))::text)
      else length(ltrim(split_part(abs(v_value)::text, '.', 2), '0')) - length(split_part(abs(v_value)::text, '.', 2)) end;
    v_value := round(p_dividend, greatest(scale(p_dividend), v_places + 20)) / p_divisor; -- as many places as its dividend
  end loop;
  return trim_scale(public.round_half_even(v_value, v_places));
end
$$;

-- Rows of the original system say BUY and SELL, and spell an exchange in any way.
create or replace function public.position_side(p_side text) returns text
language sql immutable set search_path = '' as $$
  select case upper(p_side) when 'BUY' then 'LONG' when 'SELL' then 'SHORT' else upper(p_side) end
$$;

-- A moment of the books in the venue's time, as far as it is known.
create or replace function public.market_ms(p_market_time_ms bigint, p_at timestamptz) returns bigint
language sql immutable set search_path = '' as $$
  select coalesce(p_market_time_ms, (extract(epoch from p_at) * 1000)::bigint)
$$;

-- Whether a text is one line of up to `p_longest` characters that all can be seen, and not blank. Joiners may stand between
-- letters of the scripts that use them and between emoji, a variation selector behind the character whose form it selects.
create or replace function public.is_plain(p_text text, p_longest integer) returns boolean
language sql immutable set search_path = '' as $$
  select length(p_text) <= p_longest and btrim(p_text) <> ''
    and p_text !~ ('[\u0001-\u001f\u007f-\u00a0\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u1680'
      '\u17b4\u17b5\u180e\u2000-\u200b\u200e\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ue000-\uf8ff\ufdd0-\ufdef\ufeff'
      '\uffa0\ufff0-\ufffb\ufffe\uffff\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d159'
      '\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U0010ffff]')
    and p_text !~ '[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]{9}'
    and regexp_replace(
      p_text,
      '(?<=[\u0600-\u1cff])[\u200c\u200d](?=[\u0600-\u1cff])|'
      '(?<=[\u094d\u09cd\u0a4d\u0acd\u0b4d\u0bcd\u0c4d\u0ccd\u0d3b\u0d3c\u0d4d\u0dca\u1039\u103a\u17d2])\u200d(?= |$)|'
      '(?<=[\u2190-\u2bff\ufe0f\U0001f000-\U0001faff])\u200d(?=[\u2190-\u2bff\U0001f000-\U0001faff])|'
      '(?<=[0-9#*\u00a9\u00ae])[\ufe0e\ufe0f]|'
      '(?<=[\u1800-\u180a\u1810-\ufdff\ufe10-\U000e00ff\U000e01f0-\U0010ffff])'
      '[\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]',
      '', 'g'
    ) !~ '[\u200c\u200d\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]'
$$;

revoke execute on function
  public.round_half_even, public.finite_or_null, public.quotient, public.position_side, public.market_ms, public.is_plain
  from public, anon, authenticated;
grant execute on function
  public.round_half_even, public.finite_or_null, public.quotient, public.position_side, public.market_ms, public.is_plain
  to service_role;
