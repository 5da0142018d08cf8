{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key=['chain_id', 'day', 'token']) }}

select chain_id, gapless.day(block_time) as day, token, count(*) as transfers, sum(value) as volume
from {{ ref('final_transfers') }}
{% if is_incremental() %}
where gapless.day(block_time) >= (select coalesce(max(day), '-infinity') from {{ this }})
{% endif %}
group by chain_id, gapless.day(block_time), token
