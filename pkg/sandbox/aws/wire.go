// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// The SDK's input and output structures are the schema: what is below turns the flat form of the Query protocol into an
// input and an output into XML, by reflection. A protocol knows how the two spell names.
type protocol interface {
	// parameter is the name in a request of a field of a structure.
	parameter(structure, field string, list bool) string
	// element is the name in a reply.
	element(structure, field string, list bool) string
	// item is the name of the elements of a list in a reply; in a request, a segment before each index that is not data.
	item(structure, field string) string
}

// timestampFormat is ISO 8601 with milliseconds, in UTC.
const timestampFormat = "2006-01-02T15:04:05.000Z"

// node is one level of a flattened request: NetworkInterface.1.SubnetId is three.
type node struct {
	path     string
	value    *string
	children map[string]*node
}

func (n *node) child(name string) *node {
	c := n.children[name]
	if c == nil {
		c = &node{path: strings.TrimPrefix(n.path+"."+name, "."), children: map[string]*node{}}
		n.children[name] = c
	}
	return c
}

// decodeForm fills the structure that into points to. A parameter that the structure does not have is an error, as is a
// value of another type.
func decodeForm(p protocol, form url.Values, into any) error {
	root := &node{children: map[string]*node{}}
	for key, values := range form {
		if key == "Action" || key == "Version" {
			continue
		}
		n := root
		for segment := range strings.SplitSeq(key, ".") {
			n = n.child(segment)
		}
		n.value = &values[len(values)-1]
	}
	return root.decode(p, reflect.ValueOf(into).Elem(), "")
}

// decode stores n in v. item is the name of a segment to skip before list indexes ("" for none).
func (n *node) decode(p protocol, v reflect.Value, item string) error {
	switch {
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return n.decode(p, v.Elem(), item)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8:
		return n.decodeList(p, v, item)
	case v.Kind() == reflect.Struct && v.Type() != reflect.TypeFor[time.Time]():
		return n.decodeStruct(p, v)
	}
	if n.value == nil || len(n.children) > 0 {
		return clientError("UnknownParameter", "The parameter %s is not recognized", n.path)
	}
	if err := decodeScalar(v, *n.value); err != nil {
		return clientError("InvalidParameterValue", "Invalid value '%s' for %s: %v", *n.value, n.path, err)
	}
	return nil
}

func (n *node) decodeStruct(p protocol, v reflect.Value) error {
	known := map[string]bool{}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		name := p.parameter(v.Type().Name(), f.Name, isList(f.Type))
		known[name] = true
		child := n.children[name]
		if child == nil {
			continue
		}
		if err := child.decode(p, v.Field(i), p.item(v.Type().Name(), f.Name)); err != nil {
			return err
		}
	}
	for _, name := range sortedKeys(n.children) {
		if !known[name] {
			return clientError("UnknownParameter", "The parameter %s is not recognized", n.children[name].path)
		}
	}
	return nil
}

func (n *node) decodeList(p protocol, v reflect.Value, item string) error {
	if inner, ok := n.children[item]; ok && len(n.children) == 1 {
		n = inner
	}
	indexes := make([]int, 0, len(n.children))
	for name, child := range n.children {
		index, err := strconv.Atoi(name)
		if err != nil || index < 1 {
			return clientError("UnknownParameter", "The parameter %s is not recognized", child.path)
		}
		indexes = append(indexes, index)
	}
	slices.Sort(indexes)
	v.Set(reflect.MakeSlice(v.Type(), 0, len(indexes)))
	for _, index := range indexes {
		element := reflect.New(v.Type().Elem()).Elem()
		if err := n.children[strconv.Itoa(index)].decode(p, element, ""); err != nil {
			return err
		}
		v.Set(reflect.Append(v, element))
	}
	return nil
}

func decodeScalar(v reflect.Value, text string) (err error) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		t, err := time.Parse(time.RFC3339Nano, text)
		v.Set(reflect.ValueOf(t))
		return err
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		v.SetBool(b)
		return err
	case reflect.Int32, reflect.Int64:
		i, err := strconv.ParseInt(text, 10, v.Type().Bits())
		v.SetInt(i)
		return err
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		v.SetFloat(f)
		return err
	case reflect.Slice: // of bytes
		b, err := base64.StdEncoding.DecodeString(text)
		v.SetBytes(b)
		return err
	default:
		return errors.New("a value of this type is not decoded")
	}
	return nil
}

// encodeBody writes the fields of an output structure as XML elements. Absent fields are left out: an empty timestamp
// breaks the SDK's decoder.
func encodeBody(out *bytes.Buffer, p protocol, output any) {
	encodeFields(out, p, reflect.Indirect(reflect.ValueOf(output)))
}

func encodeFields(out *bytes.Buffer, p protocol, v reflect.Value) {
	for _, f := range elementsOf(p, v.Type()) {
		value := v.Field(f.index)
		if f.keepEmpty && value.Len() == 0 {
			writeTag(out, "<", f.name)
			writeTag(out, "</", f.name)
			continue
		}
		encodeValue(out, p, f.name, f.item, value)
	}
}

// element is how a field of a structure is written.
type element struct {
	index      int
	name, item string
	keepEmpty  bool // a list that is written with nothing in it
}

type structureOf struct {
	protocol  protocol
	structure reflect.Type
}

// elements are worked out once for a structure: a reply has thousands of them.
var elements sync.Map // structureOf to []element

func elementsOf(p protocol, structure reflect.Type) []element {
	key := structureOf{p, structure}
	if known, ok := elements.Load(key); ok {
		return known.([]element)
	}
	var list []element
	for i := range structure.NumField() {
		f := structure.Field(i)
		if f.IsExported() && f.Name != "ResultMetadata" {
			list = append(list, element{
				index: i, name: p.element(structure.Name(), f.Name, isList(f.Type)), item: p.item(structure.Name(), f.Name),
				keepEmpty: isList(f.Type) && emptyLists[structure.Name()+"."+f.Name],
			})
		}
	}
	elements.Store(key, list)
	return list
}

func writeTag(out *bytes.Buffer, open, name string) {
	out.WriteString(open)
	out.WriteString(name)
	out.WriteByte('>')
}

func encodeValue(out *bytes.Buffer, p protocol, name, item string, v reflect.Value) {
	if (v.Kind() == reflect.Pointer || v.Kind() == reflect.Slice) && v.IsNil() || v.Kind() == reflect.String && v.Len() == 0 {
		return
	}
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	writeTag(out, "<", name)
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		out.WriteString(v.Interface().(time.Time).UTC().Format(timestampFormat))
	case v.Type() == reflect.TypeFor[ec2types.InstanceTypeInfo]():
		out.Write(encodedType(p, v))
	case v.Kind() == reflect.Struct:
		encodeFields(out, p, v)
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			encodeValue(out, p, item, "", v.Index(i))
		}
	case v.Kind() == reflect.String:
		_ = xml.EscapeText(out, []byte(v.String())) // writing to a buffer does not fail
	case v.Kind() == reflect.Bool:
		out.WriteString(strconv.FormatBool(v.Bool()))
	case v.Kind() == reflect.Int32 || v.Kind() == reflect.Int64:
		out.WriteString(strconv.FormatInt(v.Int(), 10))
	case v.Kind() == reflect.Float64:
		out.WriteString(strconv.FormatFloat(v.Float(), 'f', -1, 64))
	default:
		// Writing to a buffer does not fail.
		_ = xml.EscapeText(out, fmt.Append(nil, v.Interface()))
	}
	writeTag(out, "</", name)
}

// encodedTypes are the records of instance types, by name. They never change, and callers list all of them again and again.
var encodedTypes sync.Map

func encodedType(p protocol, v reflect.Value) []byte {
	name := v.FieldByName("InstanceType").String()
	if encoded, ok := encodedTypes.Load(name); ok {
		return encoded.([]byte)
	}
	var out bytes.Buffer
	encodeFields(&out, p, v)
	encodedTypes.Store(name, out.Bytes())
	return out.Bytes()
}

func isList(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
