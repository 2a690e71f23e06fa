package fuzz

import (
	"reflect"
	"strings"
)

// visit is called for a field of a struct, with the field's key as fields.md has it (Type.json-name) and its value. It
// says whether to go inside.
type visit func(key string, value reflect.Value) bool

// walkValue visits every field of every struct in v, of each element of lists and maps, that is not zero.
func walkValue(v reflect.Value, f visit) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			walkValue(v.Elem(), f)
		}
	case reflect.Slice:
		for i := range v.Len() {
			walkValue(v.Index(i), f)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			walkValue(v.MapIndex(key), f)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			key, ok := fieldKey(v.Type(), field)
			if field.IsExported() && !v.Field(i).IsZero() && (!ok || f(key, v.Field(i))) {
				walkValue(v.Field(i), f)
			}
		}
	}
}

// walkType visits every field of every struct that t is made of, with zero values, each type once.
func walkType(t reflect.Type, seen map[reflect.Type]bool, f visit) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		walkType(t.Elem(), seen, f)
	case reflect.Struct:
		if seen[t] {
			return
		}
		seen[t] = true
		for i := range t.NumField() {
			field := t.Field(i)
			key, ok := fieldKey(t, field)
			if field.IsExported() && (!ok || f(key, reflect.Zero(field.Type))) {
				walkType(field.Type, seen, f)
			}
		}
	}
}

// fieldKey returns the name under which fields.md lists a field; not ok for what JSON does not show as a field.
func fieldKey(t reflect.Type, field reflect.StructField) (key string, ok bool) {
	name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
	return t.Name() + "." + name, name != "" && name != "-"
}
