"""OCI images for tests, made of what is on the machine."""
import gzip
import hashlib
import io
import json
import pathlib
import re
import shutil
import subprocess
import tarfile


def entry(name, data=b"", mode=0o644, **more):
    info = tarfile.TarInfo(name)
    info.mode, info.size = mode, len(data)
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def directory(name, mode=0o755):
    return entry(name, mode=mode, type=tarfile.DIRTYPE)


def link(name, target, type_=tarfile.SYMTYPE):
    return entry(name, type=type_, linkname=target)


def program(name):
    """A program of this machine with the libraries that it needs, at their places."""
    path = pathlib.Path(shutil.which(name))
    needed = re.findall(r"(?:=> )?(/\S+) \(0x", subprocess.run(["ldd", path], capture_output=True, text=True).stdout)
    return [entry("bin/" + name, path.read_bytes(), 0o755)] + [entry(lib.lstrip("/"), pathlib.Path(lib).read_bytes(), 0o755) for lib in needed]


def layer(*entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        seen = set()
        for info, data in entries:
            if info.type != tarfile.REGTYPE or info.name not in seen or not info.name.startswith("lib"):
                tar.addfile(info, io.BytesIO(data))
            seen.add(info.name)
    return out.getvalue()


def layout(path, *layers, tag="v1", index=None):
    """Writes an OCI image layout, put there at once; gives the digest of its manifest."""
    new = path.with_name(path.name + ".new")
    (new / "blobs/sha256").mkdir(parents=True)

    def blob(data, kind):
        digest = hashlib.sha256(data).hexdigest()
        (new / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": kind, "digest": "sha256:" + digest, "size": len(data)}
    config = {"architecture": "amd64", "os": "linux", "config": {},
              "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(data).hexdigest() for data in layers]}}
    manifest = {"schemaVersion": 2, "config": blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
                "layers": [blob(gzip.compress(data, 1), "application/vnd.oci.image.layer.v1.tar+gzip") for data in layers]}
    descriptor = blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    descriptor["annotations"] = {"org.opencontainers.image.ref.name": tag}
    (new / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": (index or []) + [descriptor]}))
    (new / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    if path.exists():
        shutil.rmtree(path)
    new.rename(path)
    return descriptor["digest"][7:]
