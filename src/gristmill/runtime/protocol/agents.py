"""The messages of ``agents.proto``, as classes. Their types are in ``agents.pyi``; ``generate.py`` makes both."""

from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def _classes() -> dict[str, type]:
    described = descriptor_pb2.FileDescriptorSet.FromString(Path(__file__).with_name("agents.binpb").read_bytes())
    pool = descriptor_pool.DescriptorPool()  # of our own: nobody else's names can be in the way
    for file in described.file:
        pool.Add(file)
    return message_factory.GetMessageClassesForFiles([file.name for file in described.file], pool)


globals().update({name.rpartition(".")[2]: cls for name, cls in _classes().items()})
