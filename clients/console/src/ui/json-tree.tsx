/** A JSON value as a tree that the keyboard walks. */

import { allExpanded, collapseAllNested, JsonView } from "react-json-view-lite";

const styles = {
  container: "json",
  basicChildStyle: "json-child",
  childFieldsContainer: "json-children",
  label: "json-label",
  clickableLabel: "json-label json-clickable",
  nullValue: "json-null",
  undefinedValue: "json-null",
  stringValue: "json-string",
  booleanValue: "json-boolean",
  numberValue: "json-number",
  otherValue: "json-other",
  punctuation: "json-punctuation",
  expandIcon: "json-expand",
  collapseIcon: "json-collapse",
  collapsedContent: "json-collapsed",
  noQuotesForStringValues: false,
  quotesForFieldNames: false,
  ariaLables: { collapseJson: "collapse", expandJson: "expand" },
  stringifyStringValues: true,
};

export default function JsonTree({ value, label, open }: { value: unknown; label: string; open: boolean }) {
  return (
    <JsonView
      data={value as object}
      style={styles}
      shouldExpandNode={open ? allExpanded : collapseAllNested}
      aria-label={label}
      clickToExpandNode
    />
  );
}
