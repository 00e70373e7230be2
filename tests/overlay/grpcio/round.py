"""A client of the contract that is none of ours: generated from contract.proto by grpcio-tools.

usage: round.py FOLDER WORKER LEADER, where FOLDER is for what is generated. It prints what it got as JSON, for the test
to compare, after it has made sure of what does not depend on the data. Without arguments it only says that it could.
"""

import json
import pathlib
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_tools import protoc

TIMEOUT = 60


def generated(folder):
    """The modules that protoc makes of the contract."""
    source = pathlib.Path(__file__).parent
    code = protoc.main(
        ["protoc", f"-I{source}", f"--python_out={folder}", f"--grpc_python_out={folder}", "contract.proto"]
    )
    assert code == 0, f"protoc: {code}"
    sys.path.insert(0, folder)
    import contract_pb2
    import contract_pb2_grpc

    return contract_pb2, contract_pb2_grpc


def main(folder, worker, leader):
    pb, rpc = generated(folder)

    def connect(address):
        return rpc.OverlayNodeStub(grpc.insecure_channel(address))

    stub = connect(leader)

    def query(params, on=stub, **more):
        request = pb.QueryRequest(query_type="filter", query_params=json.dumps(params), client_id="grpcio", **more)
        return on.Query(request, timeout=TIMEOUT)

    def chunk(uid, index):
        return stub.GetChunk(pb.ChunkRequest(uid=uid, chunk_index=index), timeout=TIMEOUT)

    def records(answer):
        """All of them, chunk by chunk to the last."""
        found, index = [], 0
        while True:
            part = chunk(answer.uid, index)
            assert (part.status, part.uid, part.chunk_index) == ("success", answer.uid, index), part
            assert part.total_chunks == answer.total_chunks, part
            found += json.loads(part.data)
            index += 1
            if part.is_last:
                break
        assert (index, len(found)) == (answer.total_chunks, answer.total_records)
        return found

    asked = {"parameter": "pm2.5", "min_value": 5, "max_value": 35}
    answer = query(asked, hops=["client"])
    assert answer.status == "ready" and list(answer.hops) == ["client", "A"], answer
    found = records(answer)
    assert records(answer) == found, "the same when they are read again"

    # What there is not.
    last = chunk(answer.uid, answer.total_chunks)
    assert (last.status, last.data, last.is_last) == ("out_of_range", "[]", True), last
    assert chunk("nobody", 0).status == "not_found"
    empty = query({"parameter": "RADON"})
    assert (empty.status, empty.total_chunks, empty.total_records) == ("ready", 1, 0), empty
    assert records(empty) == []
    assert query({"min_value": 2, "max_value": 1}).status.startswith("invalid_query:")
    assert query({}, hops=["A"]).status == "loop_detected"

    # Many at a time, each with its own answer.
    minima = list(range(40))
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda least: query({"min_value": least}), minima))
        counts = list(pool.map(lambda answer: len(records(answer)), answers))
    assert all(answer.status == "ready" for answer in answers), answers

    of_leader, of_worker = (
        connect(address).GetMetrics(pb.MetricsRequest(), timeout=TIMEOUT) for address in (leader, worker)
    )
    names = [field.name for field in pb.MetricsResponse.DESCRIPTOR.fields]
    metrics = [
        {name: list(value) if name == "recent_logs" else value for name in names for value in [getattr(one, name)]}
        for one in (of_leader, of_worker)
    ]

    ended = connect(worker).Shutdown(pb.ShutdownRequest(graceful=True), timeout=TIMEOUT).status
    print(json.dumps({"records": found, "counts": counts, "metrics": metrics, "shutdown": ended}))


if __name__ == "__main__" and len(sys.argv) > 1:
    main(*sys.argv[1:])
