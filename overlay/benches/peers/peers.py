"""DuckDB and polars, asked line by line on standard input; each answer is one line of JSON on standard output.

load duckdb | load polars | wc            seconds from CSV to a table in memory, of a fresh read each time
count I | records I | arrow I             the filter of round I on DuckDB's table: seconds, rows
"""

import glob
import json
import os
import subprocess
import sys
import time

THREADS = 2
os.environ["POLARS_MAX_THREADS"] = str(THREADS)

import duckdb  # noqa: E402
import polars  # noqa: E402

FILES = os.path.join(sys.argv[1], "*", "*.csv")
NAMES = (
    "latitude longitude timestamp parameter value unit raw_concentration aqi category "
    "site_name agency_name aqs_id full_aqs_id"
).split()
WHERE = "parameter = 'PM2.5' and value between ? and 50"

base = duckdb.connect(config={"threads": THREADS})


def load_duckdb():
    base.execute("drop table if exists rows")
    columns = ", ".join(f"'{name}'" for name in NAMES)
    base.execute(f"create table rows as from read_csv('{FILES}', header=false, names=[{columns}])")
    return base.execute("select count(*) from rows").fetchone()[0]


def load_polars():
    return polars.scan_csv(FILES, has_header=False).collect().height


def read_lines():
    said = subprocess.run(["wc", "-l", *glob.glob(FILES)], capture_output=True, check=True, text=True)
    return int(said.stdout.split("\n")[-2].split()[0])


def ask(kind, number):
    # Another bound each time, with the same rows: no cache may answer.
    least = 10 - number * 1e-9
    if kind == "count":
        return base.execute(f"select count(*) from rows where {WHERE}", [least]).fetchone()[0]
    if kind == "records":
        return len(base.execute(f"select * from rows where {WHERE} limit 2000", [least]).fetchall())
    return base.execute(f"select * from rows where {WHERE}", [least]).to_arrow_table().num_rows


def answer(words):
    match words:
        case ["versions"]:
            return {"duckdb": duckdb.__version__, "polars": polars.__version__, "python": sys.version.split()[0]}
        case ["load", "duckdb"]:
            work = load_duckdb
        case ["load", "polars"]:
            work = load_polars
        case ["wc"]:
            work = read_lines
        case [kind, number]:
            work = lambda: ask(kind, int(number))  # noqa: E731
    began = time.perf_counter()
    rows = work()
    return {"seconds": time.perf_counter() - began, "rows": rows}


for line in sys.stdin:
    print(json.dumps(answer(line.split())), flush=True)
