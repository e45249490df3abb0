// A table whose rows come from Python, some at a time. Every value is put in as text, never as HTML.
export default {
  template: `
    <div class="live-table">
      <div class="scroll">
        <table class="grid" :aria-label="label">
          <thead>
            <tr>
              <th v-if="selectable" class="tick" scope="col">
                <input type="checkbox" aria-label="choose all that are shown" :checked="allChosen" :disabled="!rows.length"
                  :indeterminate.prop="chosen.length > 0 && !allChosen" @change="chooseAll($event.target.checked)">
              </th>
              <th v-for="c in columns" :key="c.name" :class="classes(c)" :aria-sort="order(c)" scope="col">
                <button v-if="c.sortable" type="button" class="sort" @click="sortBy(c)">{{ c.title }}<span
                  class="arrow" aria-hidden="true">{{ arrow(c) }}</span></button>
                <template v-else>{{ c.title }}</template>
              </th>
            </tr>
          </thead>
          <tbody>
            <tr v-for="row in rows" :key="row.key" :data-key="row.key" :class="{ chosen: chosen.includes(row.key) }">
              <td v-if="selectable" class="tick">
                <input type="checkbox" :aria-label="'choose ' + row.key" :checked="chosen.includes(row.key)"
                  @change="choose(row.key, $event.target.checked)">
              </td>
              <td v-for="c in columns" :key="c.name" :class="classes(c)" :data-title="c.title">
                <a v-if="c.href && row[c.href]" :href="row[c.href]" :title="row[c.name]">{{ row[c.name] }}</a>
                <span v-else-if="c.kind === 'state' && row[c.name]" class="badge" :class="row[c.name]"><span
                  class="sign" aria-hidden="true">{{ signs[row[c.name]] || "•" }}</span>{{ row[c.name] }}</span>
                <svg v-else-if="c.kind === 'spark' && row[c.name]" class="spark" viewBox="0 0 96 22" width="96"
                  height="22" role="img" :aria-label="row[c.name + '_label']"><path :d="row[c.name]"/></svg>
                <span v-else :title="c.kind === 'num' ? undefined : row[c.name]">{{ row[c.name] }}</span>
              </td>
            </tr>
          </tbody>
        </table>
      </div>
      <div v-if="total > length" class="pager">
        <span class="muted">{{ count(start + 1) }}–{{ count(Math.min(start + length, total)) }} of {{ count(total) }}</span>
        <button type="button" class="btn" :disabled="start === 0" @click="$emit('page', 0)" aria-label="first page">⇤</button>
        <button type="button" class="btn" :disabled="start === 0" @click="$emit('page', Math.max(0, start - length))">‹ Previous</button>
        <button type="button" class="btn" :disabled="start + length >= total" @click="$emit('page', start + length)">Next ›</button>
      </div>
    </div>`,
  props: {
    columns: Array,
    rows: Array,
    label: String,
    sort: String,
    descending: Boolean,
    selectable: Boolean,
    total: Number,
    start: Number,
    length: Number,
    signs: Object,
  },
  data: () => ({ chosen: [] }),
  computed: {
    allChosen() {
      return this.rows.length > 0 && this.rows.every((row) => this.chosen.includes(row.key));
    },
  },
  watch: {
    rows(rows) {
      const there = this.chosen.filter((key) => rows.some((row) => row.key === key));
      if (there.length !== this.chosen.length) this.tell(there);
    },
  },
  methods: {
    classes: (c) => ["is-" + c.kind, c.wide ? "wide-only" : "", "at-" + c.name],
    count: (n) => n.toLocaleString("en-US"),
    order(c) {
      return c.name === this.sort ? (this.descending ? "descending" : "ascending") : undefined;
    },
    arrow(c) {
      return c.name === this.sort ? (this.descending ? "↑" : "↓") : "";
    },
    sortBy(c) {
      this.$emit("order", { sort: c.name, descending: c.name === this.sort && !this.descending });
    },
    choose(key, on) {
      this.tell(on ? [...this.chosen, key] : this.chosen.filter((other) => other !== key));
    },
    chooseAll(on) {
      this.tell(on ? this.rows.map((row) => row.key) : []);
    },
    clear() {
      this.tell([]);
    },
    tell(chosen) {
      this.chosen = chosen;
      this.$emit("choose", chosen);
    },
  },
};
