// A text field with a list of suggestions below it, which the server fills. Arrow keys, Enter, Tab, Escape; touch.
export default {
  template: `
    <div class="suggest" :class="{ bad: bad }">
      <component :is="area ? 'textarea' : 'input'" ref="field" class="field" :class="{ mono: area }" type="text" rows="1"
        :placeholder="placeholder" :aria-label="label" :aria-invalid="bad" role="combobox" aria-autocomplete="list"
        :aria-expanded="open" :aria-controls="'list-' + uid" :aria-activedescendant="open && at >= 0 ? 'at-' + uid + '-' + at : null"
        autocomplete="off" autocapitalize="off" autocorrect="off" spellcheck="false" maxlength="4000"
        @input="typed" @keydown="key" @focus="focused" @blur="left" @click="typed"></component>
      <ul v-show="open" ref="list" class="suggestions" role="listbox" :id="'list-' + uid" aria-label="what could be meant">
        <li v-for="(item, i) in items" :key="i" role="option" :id="'at-' + uid + '-' + i" :aria-selected="i === at"
          :class="{ at: i === at }" @pointerdown.prevent @click="choose(i)">
          <span class="clip">{{ item.text }}</span><span class="muted">{{ item.note }}</span>
        </li>
        <li v-if="more" class="more muted" aria-disabled="true">{{ more }}</li>
      </ul>
    </div>`,
  props: { value: String, items: Array, more: String, label: String, placeholder: String, area: Boolean, bad: Boolean },
  data: () => ({ shown: false, at: -1, last: "", timer: 0, uid: Math.random().toString(36).slice(2) }),
  computed: {
    open() {
      return this.shown && (this.items?.length ?? 0) > 0;
    },
  },
  mounted() {
    this.put(this.value ?? "");
  },
  watch: {
    value(text) {
      if (text !== this.last) this.put(text ?? "");
    },
    items() {
      this.at = -1;
    },
  },
  methods: {
    put(text) {
      this.$refs.field.value = this.last = text;
      this.grow();
    },
    grow() {
      if (!this.area) return;
      const style = this.$refs.field.style;
      style.height = "auto";
      style.height = `${Math.min(this.$refs.field.scrollHeight + 2, 160)}px`;
    },
    typed() {
      this.last = this.$refs.field.value;
      this.shown = true;
      this.at = -1;
      this.grow();
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.$emit("typed", { text: this.last, caret: this.$refs.field.selectionStart }), 80);
    },
    focused() {
      if (!this.area) this.$refs.field.select();
      this.typed();
    },
    left() {
      this.shown = false;
      this.enter();
    },
    enter() {
      clearTimeout(this.timer);
      if (this.last !== this.value) this.$emit("entered", { text: this.last });
    },
    key(event) {
      const n = this.items?.length ?? 0;
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        if (!this.open) return this.area ? undefined : this.typed();
        event.preventDefault();
        this.at = (this.at + (event.key === "ArrowDown" ? 1 : this.at < 0 ? 0 : -1) + n) % n;
        this.$nextTick(() => this.$refs.list.children[this.at]?.scrollIntoView({ block: "nearest" }));
      } else if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        if (this.open && this.at >= 0) return this.choose(this.at);
        this.shown = false;
        clearTimeout(this.timer);
        this.$emit("entered", { text: this.last });
      } else if (event.key === "Tab" && this.open && this.at >= 0) {
        event.preventDefault();
        this.choose(this.at);
      } else if (event.key === "Escape") {
        if (!this.open) return this.$refs.field.blur();
        event.stopPropagation();
        this.shown = false;
      }
    },
    choose(i) {
      const item = this.items[i];
      const field = this.$refs.field;
      const text = field.value;
      const end = Math.max(item.end, field.selectionStart);
      field.value = this.area ? text.slice(0, item.start) + item.text + text.slice(end) : item.text;
      this.last = field.value;
      this.shown = false;
      this.at = -1;
      this.grow();
      if (!this.area) return this.$emit("entered", { text: this.last });
      const caret = item.start + item.text.length;
      field.focus();
      field.setSelectionRange(caret, caret);
    },
  },
};
