package org.h2.mvstore;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.stream.Stream;
import java.util.zip.CRC32C;

/**
 * A store's file that is opened as its last commit left it, whatever a power cut kept of later writes. What it has is what MVStore writes; how the
 * newest commit is found is this class's.
 *
 * As it comes, MVStore looks for the newest chunk by its header and footer, from the end of the file, along predictions, or everywhere, and has no
 * checksum of what lies between the two. A disk may keep any part of what was not synced. So a torn chunk was taken, and pages of it were garbage; a
 * chunk that refers to one whose room was used again was passed over together with those behind it; and one that was left of an unfinished commit came
 * back when the file was opened the next time, in place of what had been committed meanwhile.
 *
 * Here it is done as LMDB does with its two meta pages (Chu, "MDB: A Memory-Mapped Database and Backend for OpenLDAP", 2011), with one sync for a
 * commit in place of two: the file's two headers are written in turn, one with each chunk, and have the chunk's CRC-32C (RFC 3720, B.4). The newer
 * header whose chunk is whole counts; nothing else is looked for. For that to hold
 * - a chunk is written only when the one before is on the disk, and so is what was moved: then the other header is good;
 * - room is used again only when a commit that does not need it any more is on the disk;
 * - after a sync that failed, the header is taken back: the kernel may say later that all is well.
 */
public final class DurableFile extends SingleFileStore {
    private static final String SUM = "sum";
    private static final int HEADERS = 2 * BLOCK_SIZE, PIECE = 1 << 20, FULL = 90, AT_ONCE = 16 << 20;
    /** Room is kept for as long as a commit may need it, not for so many milliseconds. */
    private static final int ANY = -1;

    private final List<long[]> leaving = new ArrayList<>(), left = new ArrayList<>(); // position and length of room: free after the next commit; after this one
    private boolean dirty;  // a chunk was written and not synced
    private boolean moved;  // a chunk has another place, where it is not synced
    private boolean theirs; // written by MVStore's own class, which has other headers
    private int slot;       // of the header that was written last

    private DurableFile(Map<String, Object> config) { super(config); }

    /** Opens the store in `file`, which commits when it is told to and at no other time. */
    public static MVStore open(String file, int cacheMb) {
        DurableFile f = new DurableFile(new HashMap<>(Map.of("cacheSize", cacheMb)));
        f.open(file, false, (char[]) null);
        try {
            MVStore s = new MVStore.Builder().adoptFileStore(f).autoCommitDisabled().autoCommitBufferSize(0).open();
            f.setRetentionTime(ANY);
            return s;
        } catch (RuntimeException | Error e) {
            f.close();
            throw e;
        }
    }

    /** Gives room back to the file system, for about maxMs: writes again what is left of chunks, and moves them together. */
    public void shrink(int maxMs) {
        long end = System.nanoTime() + maxMs * 1_000_000L, before;
        do {
            before = size();
            compact(FULL, AT_ONCE);
            dropUnused();
            compactMoveChunks(FULL, AT_ONCE, getMvStore());
            dropUnused();
            saveChunkLock.lock();
            try {
                shrinkStoreIfPossible(0);
            } finally {
                saveChunkLock.unlock();
            }
        } while (size() < before && System.nanoTime() < end);
    }

    /** Commits without what is not used any more, whose room is free then. */
    private void dropUnused() {
        getMvStore().commit();
        dropUnusedChunks();
        getMvStore().commit();
        sync();
    }

    /** Whether adopt() is to be called. */
    public boolean isTheirs() { return theirs; }

    /** To be called before anything is written: from here on the file is one of this class, and MVStore's own may open it no more. */
    public void adopt() {
        saveChunkLock.lock();
        try {
            for (int i = 0; i < 2; i++) {
                writeHeader(lastChunk, lastChunk == null ? 0 : sumOf(lastChunk.block, lastChunk.len));
                super.sync();
            }
            theirs = false;
        } finally {
            saveChunkLock.unlock();
        }
    }

    // ---- writing

    @Override protected void writeFully(SFChunk chunk, long at, ByteBuffer bytes) {
        if (theirs) super.writeFully(chunk, at, bytes);
        else if (chunk != null) writeCommit(chunk, at, bytes);
        else if (at != 0) { // a chunk is moved; a commit says so afterwards
            moved = true;
            super.writeFully(null, at, bytes);
        }
    }

    private void writeCommit(SFChunk chunk, long at, ByteBuffer bytes) {
        if (dirty || moved) sync();
        CRC32C sum = new CRC32C();
        sum.update(bytes.duplicate());
        dirty = true;
        left.addAll(leaving);
        leaving.clear();
        super.writeFully(chunk, at, bytes);
        writeHeader(chunk, sum.getValue());
    }

    private void writeHeader(SFChunk chunk, long sum) {
        HashMap<String, Object> m = new HashMap<>(storeHeader);
        m.remove(HDR_CLEAN);
        m.put(SUM, sum);
        if (chunk != null) {
            m.put(HDR_BLOCK, chunk.block);
            m.put(HDR_CHUNK, chunk.id);
            m.put(HDR_VERSION, chunk.version);
        }
        StringBuilder text = new StringBuilder(160);
        DataUtils.appendMap(text, m);
        byte[] b = text.toString().getBytes(StandardCharsets.ISO_8859_1);
        DataUtils.appendMap(text, HDR_FLETCHER, DataUtils.getFletcher32(b, 0, b.length));
        slot = 1 - slot;
        super.writeFully(null, (long) slot * BLOCK_SIZE, block(text.append('\n')));
    }

    private static ByteBuffer block(CharSequence text) {
        return ByteBuffer.wrap(Arrays.copyOf(text.toString().getBytes(StandardCharsets.ISO_8859_1), BLOCK_SIZE));
    }

    @Override public void sync() {
        try {
            super.sync();
        } catch (MVStoreException e) {
            if (dirty && !theirs) takeBack();
            throw e;
        }
        saveChunkLock.lock();
        try {
            dirty = moved = false;
            left.forEach(room -> super.free(room[0], (int) room[1]));
            left.clear();
        } finally {
            saveChunkLock.unlock();
        }
    }

    private void takeBack() {
        try {
            super.writeFully(null, (long) slot * BLOCK_SIZE, block(""));
        } catch (MVStoreException e) { /* then the next open() may find a commit that nobody was told of */ }
    }

    @Override protected void free(long at, int bytes) {
        if (theirs) super.free(at, bytes);
        else leaving.add(new long[] {at, bytes});
    }

    // ---- opening

    /** Of a new file. It is there with both headers before anything else is. */
    @Override protected void initializeStoreHeader(long time) {
        initializeCommonHeaderAttributes(time);
        slot = 1;
        writeHeader(null, 0);
        writeHeader(null, 0);
        super.sync();
    }

    @Override protected void readStoreHeader(boolean recoveryMode) {
        if (isUnborn()) {
            initializeStoreHeader(System.currentTimeMillis());
            return;
        }
        List<HashMap<String, String>> headers = Stream.of(readHeader(0), readHeader(1)).filter(Objects::nonNull).toList();
        theirs = headers.stream().noneMatch(h -> h.containsKey(SUM));
        if (theirs) super.readStoreHeader(recoveryMode);
        else take(headers.stream().filter(this::isWhole).max(Comparator.comparingLong(DurableFile::versionOf)).orElseThrow(() -> corrupt("both headers, or the chunks that they name, are damaged")));
        super.sync(); // what the kernel has of it, and is read from here on, is on the disk
    }

    /** The power went before its headers were on the disk, so that nothing else was. */
    private boolean isUnborn() {
        int n = (int) Math.min(size(), HEADERS + 1);
        return n <= HEADERS && Arrays.equals(readFully((SFChunk) null, 0, n).array(), new byte[n]);
    }

    private HashMap<String, String> readHeader(int slot) {
        try {
            byte[] b = new byte[BLOCK_SIZE];
            readFully((SFChunk) null, (long) slot * BLOCK_SIZE, BLOCK_SIZE).get(b);
            HashMap<String, String> h = DataUtils.parseChecksummedMap(b);
            if (h != null) h.put("slot", "" + slot);
            return h;
        } catch (RuntimeException e) {
            return null;
        }
    }

    private static long versionOf(Map<String, String> header) { return DataUtils.readHexLong(header, HDR_VERSION, 0); }

    private boolean isWhole(Map<String, String> header) {
        if (!header.containsKey(SUM)) return false;
        if (!header.containsKey(HDR_CHUNK)) return true; // nothing was committed yet
        long block = DataUtils.readHexLong(header, HDR_BLOCK, 0);
        SFChunk c = readChunkHeaderAndFooter(block, DataUtils.readHexInt(header, HDR_CHUNK, 0));
        return c != null && c.version == versionOf(header) && sumOf(block, c.len) == DataUtils.readHexLong(header, SUM, 0);
    }

    private long sumOf(long block, int blocks) {
        CRC32C sum = new CRC32C();
        long at = block * BLOCK_SIZE, end = at + (long) blocks * BLOCK_SIZE;
        if (end > size()) return -1;
        for (; at < end; at += PIECE) sum.update(readFully((SFChunk) null, at, (int) Math.min(PIECE, end - at)));
        return sum.getValue();
    }

    private void take(Map<String, String> header) {
        slot = DataUtils.readHexInt(header, "slot", 0);
        header.keySet().removeAll(List.of("slot", SUM));
        storeHeader.putAll(header);
        processCommonHeaderAttributes();
        if (!header.containsKey(HDR_CHUNK)) return;
        setLastChunk(readChunkHeaderAndFooter(DataUtils.readHexLong(header, HDR_BLOCK, 0), DataUtils.readHexInt(header, HDR_CHUNK, 0)));
        for (SFChunk c : getChunksFromLayoutMap()) Objects.requireNonNull(c); // it is among getChunks() now; the last one is not in the map
        for (SFChunk c : getChunks().values()) {
            if (c.isAllocated()) markUsed(c.block * BLOCK_SIZE, c.len * BLOCK_SIZE);
            if (!c.isLive()) registerDeadChunk(c);
        }
    }

    private MVStoreException corrupt(String why) {
        return DataUtils.newMVStoreException(DataUtils.ERROR_FILE_CORRUPT, "{0}", why);
    }
}
