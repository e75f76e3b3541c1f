// SPDX-License-Identifier: Apache-2.0

package instancetypes

import (
	"bufio"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// The first columns; those after them are paths into InstanceTypeInfo, as "NetworkInfo.NetworkCards.0.MaximumNetworkInterfaces".
const (
	columnName  = "InstanceType"
	columnPrice = "$usdPerHour"
	columnZones = "$zones"
)

// Record is one type with its price (0: not sold on demand) and the letters of the zones that offer it.
type Record struct {
	Info       ec2types.InstanceTypeInfo
	USDPerHour float64
	Zones      string
}

type row struct {
	info  ec2types.InstanceTypeInfo
	price float64
	zones string
}

// Table holds the figures.
type Table struct {
	origin []string
	names  []string
	rows   map[string]row
}

// Info returns the figures of a type, whose lists and structures all callers share: change none of them.
func (t *Table) Info(name string) (ec2types.InstanceTypeInfo, bool) {
	r, ok := t.rows[name]
	return r.info, ok
}

// decode the cells of a type; paths are those of the columns.
func decode(name string, paths [][]string, cells []string) (ec2types.InstanceTypeInfo, error) {
	info := ec2types.InstanceTypeInfo{InstanceType: ec2types.InstanceType(name)}
	for i, cell := range cells {
		if cell == "" {
			continue
		}
		if err := set(reflect.ValueOf(&info).Elem(), paths[i], cell); err != nil {
			return info, fmt.Errorf("%s: %s: %w", name, strings.Join(paths[i], "."), err)
		}
	}
	return info, nil
}

// Origin returns the lines of attribution.
func (t *Table) Origin() []string { return slices.Clone(t.origin) }

// Price returns USD per hour.
func (t *Table) Price(name string) (float64, bool) {
	price := t.rows[name].price
	return price, price > 0
}

// Read parses what Write wrote.
func Read(r io.Reader) (*Table, error) {
	t := &Table{rows: map[string]row{}}
	var paths [][]string
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if comment, ok := strings.CutPrefix(line, "# "); ok {
			t.origin = append(t.origin, comment)
			continue
		}
		cells := strings.Split(line, "\t")
		if paths == nil {
			if len(cells) < 3 || cells[0] != columnName || cells[1] != columnPrice || cells[2] != columnZones {
				return nil, fmt.Errorf("column names are missing")
			}
			paths = make([][]string, 0, len(cells)-3)
			for _, path := range cells[3:] {
				paths = append(paths, strings.Split(path, "."))
			}
			continue
		}
		if len(cells) != len(paths)+3 {
			return nil, fmt.Errorf("%s: %d columns, want %d", cells[0], len(cells), len(paths)+3)
		}
		price, err := strconv.ParseFloat(cells[1], 64)
		if err != nil {
			return nil, fmt.Errorf("%s: price: %w", cells[0], err)
		}
		info, err := decode(cells[0], paths, cells[3:])
		if err != nil {
			return nil, err
		}
		t.names = append(t.names, cells[0])
		t.rows[cells[0]] = row{info: info, price: price, zones: cells[2]}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	slices.Sort(t.names)
	return t, nil
}

// Write writes records as tab-separated values below the lines of origin. A figure that no record has gets no column.
func Write(w io.Writer, origin []string, records []Record) error {
	paths := []string{}
	seen := map[string]bool{}
	flat := make([]map[string]string, len(records))
	for i, r := range records {
		flat[i] = map[string]string{}
		flatten(reflect.ValueOf(r.Info), "", func(path, value string) {
			if path == columnName {
				return
			}
			if !seen[path] {
				seen[path] = true
				paths = append(paths, path)
			}
			flat[i][path] = value
		})
	}
	slices.Sort(paths)
	out := bufio.NewWriter(w)
	for _, line := range origin {
		fmt.Fprintf(out, "# %s\n", line)
	}
	fmt.Fprintln(out, strings.Join(append([]string{columnName, columnPrice, columnZones}, paths...), "\t"))
	for i, r := range records {
		cells := []string{string(r.Info.InstanceType), strconv.FormatFloat(r.USDPerHour, 'f', -1, 64), r.Zones}
		for _, path := range paths {
			cells = append(cells, flat[i][path])
		}
		fmt.Fprintln(out, strings.Join(cells, "\t"))
	}
	return out.Flush()
}

// flatten emits each figure below v. A list of plain values is one cell, joined by commas; a list of structures has one
// path an index.
func flatten(v reflect.Value, path string, emit func(path, value string)) {
	join := func(name string) string {
		if path == "" {
			return name
		}
		return path + "." + name
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			flatten(v.Elem(), path, emit)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				flatten(v.Field(i), join(f.Name), emit)
			}
		}
	case reflect.Slice:
		if v.Len() == 0 {
			return
		}
		if v.Type().Elem().Kind() == reflect.Struct {
			for i := range v.Len() {
				flatten(v.Index(i), join(strconv.Itoa(i)), emit)
			}
			return
		}
		items := make([]string, v.Len())
		for i := range items {
			items[i] = fmt.Sprint(v.Index(i).Interface())
		}
		emit(path, strings.Join(items, ","))
	case reflect.String:
		if v.Len() > 0 {
			emit(path, v.String())
		}
	default:
		emit(path, fmt.Sprint(v.Interface()))
	}
}

// set stores a figure at path below v, and makes the structures on the way.
func set(v reflect.Value, path []string, value string) error {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		return set(v.Elem(), path, value)
	case reflect.Struct:
		field := v.FieldByName(path[0])
		if !field.IsValid() {
			return fmt.Errorf("no figure %s in %s", path[0], v.Type())
		}
		return set(field, path[1:], value)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Struct {
			index, err := strconv.Atoi(path[0])
			if err != nil {
				return err
			}
			for v.Len() <= index {
				v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
			}
			return set(v.Index(index), path[1:], value)
		}
		for _, item := range strings.Split(value, ",") {
			element := reflect.New(v.Type().Elem()).Elem()
			if err := set(element, nil, item); err != nil {
				return err
			}
			v.Set(reflect.Append(v, element))
		}
		return nil
	case reflect.String:
		v.SetString(value)
		return nil
	case reflect.Bool:
		b, err := strconv.ParseBool(value)
		v.SetBool(b)
		return err
	case reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(value, 10, 64)
		v.SetInt(n)
		return err
	case reflect.Float64:
		f, err := strconv.ParseFloat(value, 64)
		v.SetFloat(f)
		return err
	default:
		return fmt.Errorf("figures of kind %s are not stored", v.Kind())
	}
}
