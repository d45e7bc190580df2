package org.h2.mvstore;

import java.util.Map;

/**
 * A map to which entries behind its last key can be appended, a page at a time (MVMap.append). put() would copy the last page for each, and leave pages
 * that are half full. MVStore has that for maps with a single writer only, whose pages it never moves. A database's maps have one, its turn, and that
 * compacts, too; so here they are moved as any others. In MVStore's package, since it asks by a method of its own.
 */
public final class AppendMap<K, V> extends MVMap<K, V> {
    private AppendMap(Builder<K, V> b, Map<String, Object> config) { super(config, b.getKeyType(), b.getValueType()); }

    /** Whether pages stay where they are. */
    @Override boolean isSingleWriter() { return false; }

    /** Opens such maps. */
    public static final class Builder<K, V> extends MVMap.BasicBuilder<AppendMap<K, V>, K, V> {
        @Override public Builder<K, V> keyType(org.h2.mvstore.type.DataType<? super K> type) {
            super.keyType(type);
            return this;
        }

        @Override public Builder<K, V> valueType(org.h2.mvstore.type.DataType<? super V> type) {
            super.valueType(type);
            return this;
        }

        @Override protected AppendMap<K, V> create(Map<String, Object> config) {
            config.put("singleWriter", Boolean.TRUE);
            return new AppendMap<>(this, config);
        }
    }
}
