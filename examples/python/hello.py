import asyncio, errno, sys
import fusewire

TEXT = b"Hello from a coroutine.\n"
root, hello = fusewire.Attr.dir(fusewire.ROOT), fusewire.Attr.file(2, size=len(TEXT))

class Hello:
    async def getattr(self, req):
        return root if req.node == fusewire.ROOT else hello
    async def lookup(self, req):
        if req.name != "hello":          # names are str, as os.fsdecode gives them: every byte string round-trips
            raise OSError(errno.ENOENT, "no such file")
        return hello
    async def readdir(self, req):
        return {"hello": hello}
    async def read(self, req):
        return TEXT[req.offset:req.offset + req.size]

async def main(path):
    with fusewire.mount(path) as conn:
        await conn.serve(Hello())

asyncio.run(main(sys.argv[1]))
