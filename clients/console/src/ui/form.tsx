/** Fields of a form, each with its label, help and error. */

import { useId } from "react";
import type { Field, Form, Raw } from "../model/forms.js";
import { text } from "../text.js";

interface Props {
  form: Form;
  raw: Raw;
  errors: Record<string, string>;
  disabled?: boolean;
  /** Label of a bare value. */
  label: string;
  /** Pointers whose value differs from the proposed one. */
  edited?: ReadonlySet<string>;
  onChange: (pointer: string, value: string | boolean) => void;
  onReset?: (pointer: string) => void;
}

export function Fields({ form, raw, errors, disabled = false, label, edited, onChange, onReset }: Props) {
  return (
    <div className="fields">
      {form.unknown ? (
        <p className="notice" data-tone="warn">
          {text.pause.unknownForm(form.unknown)}
        </p>
      ) : null}
      {form.fields.map((each) => (
        <One
          key={each.pointer}
          field={each}
          label={each.label || label}
          value={raw[each.pointer] ?? ""}
          error={errors[each.pointer]}
          disabled={disabled}
          edited={edited?.has(each.pointer) ?? false}
          onChange={(value) => onChange(each.pointer, value)}
          onReset={onReset ? () => onReset(each.pointer) : undefined}
        />
      ))}
    </div>
  );
}

interface OneProps {
  field: Field;
  label: string;
  value: string | boolean;
  error: string | undefined;
  disabled: boolean;
  edited: boolean;
  onChange: (value: string | boolean) => void;
  onReset: (() => void) | undefined;
}

function One(props: OneProps) {
  const { field, label, value, error, disabled, edited, onChange, onReset } = props;
  const id = useId();
  const described = [field.help ? `${id}-help` : "", error ? `${id}-error` : ""].filter(Boolean).join(" ") || undefined;
  const common = {
    id,
    disabled,
    "aria-describedby": described,
    "aria-invalid": error ? true : undefined,
    "aria-required": field.required || undefined,
    "data-pointer": field.pointer,
  };
  const boolean = field.kind === "boolean" && typeof value === "boolean";
  return (
    <div className={`field ${boolean ? "check-field" : ""}`}>
      <label htmlFor={id}>
        {label}
        {field.required ? <span aria-hidden> *</span> : null}
        {field.kind === "json" ? <span className="dim small"> {text.pause.asJson}</span> : null}
        {edited ? <span className="chip edited">{text.approve.edited}</span> : null}
      </label>
      {edited && onReset ? (
        <button type="button" className="button quiet" onClick={onReset}>
          {text.approve.reset}
        </button>
      ) : null}
      <Control field={field} value={value} common={common} onChange={onChange} />
      {field.help ? (
        <p id={`${id}-help`} className="dim small">
          {field.help}
        </p>
      ) : null}
      {error ? (
        <p id={`${id}-error`} className="field-error">
          {error}
        </p>
      ) : null}
    </div>
  );
}

const TYPES: Partial<Record<Field["kind"], string>> = { url: "url", email: "email", date: "date", datetime: "datetime-local" };

function Control({ field, value, common, onChange }: { field: Field; value: string | boolean; common: object; onChange: (value: string | boolean) => void }) {
  if (typeof value === "boolean") {
    return <input type="checkbox" {...common} checked={value} onChange={(event) => onChange(event.target.checked)} />;
  }
  if (field.kind === "choice" || field.kind === "boolean") {
    const options = field.kind === "boolean" ? [[text.common.yes, "true"], [text.common.no, "false"]] : field.options.map((each, i) => [shown(each), String(i)]);
    return (
      <select {...common} value={value} onChange={(event) => onChange(event.target.value)}>
        {field.nullable || !field.required || value === "" ? <option value="">{text.common.none}</option> : null}
        {options.map(([name, key]) => (
          <option key={key} value={key}>
            {name}
          </option>
        ))}
      </select>
    );
  }
  if (field.kind === "long" || field.kind === "json" || field.kind === "choices") {
    return <textarea {...common} rows={field.kind === "long" ? 3 : 6} value={value} className={field.kind === "long" ? "" : "mono"} spellCheck={field.kind === "long"} onChange={(event) => onChange(event.target.value)} />;
  }
  const numeric = field.kind === "number" || field.kind === "integer";
  return (
    <input
      {...common}
      type={TYPES[field.kind] ?? "text"}
      inputMode={numeric ? "decimal" : undefined}
      value={value}
      autoComplete="off"
      onChange={(event) => onChange(event.target.value)}
    />
  );
}

const shown = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value));

/** Moves to the first field that has an error. */
export function focusFirstError(within: HTMLElement | null): void {
  requestAnimationFrame(() => within?.querySelector<HTMLElement>("[aria-invalid=true]")?.focus());
}
