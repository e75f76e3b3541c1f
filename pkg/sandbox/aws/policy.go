// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
)

// policy is an identity's policy document, of the elements and operators that are simulated.
type policy struct {
	document   string
	statements []statement
}

type statement struct {
	Sid, Effect      string
	Action, Resource oneOrMore
	Condition        map[string]map[string]oneOrMore

	// What the members above match: a request is compared with every statement.
	actions, resources []matcher
	conditions         []condition
}

// matcher tells whether a value is one that a pattern means.
type matcher func(value string) bool

// condition is one key with one operator. All of a statement must hold.
type condition struct {
	operator operator
	key      string
	values   []matcher
	absent   bool // of Null: the key must not be there
}

// oneOrMore values: IAM takes a single one without brackets.
type oneOrMore []string

// UnmarshalJSON reads a string, a boolean or a list of them.
func (o *oneOrMore) UnmarshalJSON(text []byte) error {
	var values []any
	if err := json.Unmarshal(text, &values); err != nil {
		var value any
		if err := json.Unmarshal(text, &value); err != nil {
			return err
		}
		values = []any{value}
	}
	for _, v := range values {
		switch v := v.(type) {
		case string, bool:
			*o = append(*o, fmt.Sprint(v))
		default:
			return fmt.Errorf("%v is neither a string nor a boolean", v)
		}
	}
	return nil
}

func malformedPolicy(format string, args ...any) error {
	return clientError("MalformedPolicyDocument", format, args...)
}

// parsePolicy refuses what would have no effect here: an element that is not simulated must not look as if it restricted something.
func parsePolicy(document string) (*policy, error) {
	var parsed struct {
		Version, ID string
		Statement   json.RawMessage
	}
	if err := strictly(document, &parsed); err != nil {
		return nil, malformedPolicy("Syntax errors in policy: %v", err)
	}
	if parsed.Version != "2012-10-17" {
		return nil, malformedPolicy("The sandbox simulates policies of version 2012-10-17, not %q", parsed.Version)
	}
	p := &policy{document: document}
	if err := strictly(string(parsed.Statement), &p.statements); err != nil {
		one := statement{}
		if strictly(string(parsed.Statement), &one) != nil {
			return nil, malformedPolicy("Syntax errors in policy: %v", err)
		}
		p.statements = []statement{one}
	}
	for i := range p.statements {
		s := &p.statements[i]
		switch {
		case s.Effect != "Allow" && s.Effect != "Deny":
			return nil, malformedPolicy("Statement %q: the effect is Allow or Deny, not %q", s.Sid, s.Effect)
		case len(s.Action) == 0 || len(s.Resource) == 0:
			return nil, malformedPolicy("Statement %q: the sandbox needs Action and Resource", s.Sid)
		}
		for name, keys := range s.Condition {
			o, err := operatorOf(name)
			if err != nil {
				return nil, err
			}
			for key, values := range keys {
				c := condition{operator: o, key: key, absent: slices.Contains(values, "true")}
				if !o.null {
					c.values = matchers(values, o.compare)
				}
				s.conditions = append(s.conditions, c)
			}
		}
		s.actions, s.resources = matchers(s.Action, likeIgnoringCase), matchers(s.Resource, like)
	}
	return p, nil
}

func strictly(document string, into any) error {
	decoder := json.NewDecoder(strings.NewReader(document))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

// ask is one right that a request needs: an action on a resource, with what conditions may look at.
type ask struct {
	action, resource string
	keys             map[string][]string
}

// allowed tells whether policies allow it: a Deny decides, then an Allow.
func allowed(policies []*policy, a ask) bool {
	allow := false
	for _, p := range policies {
		for _, s := range p.statements {
			if !s.matches(a) {
				continue
			}
			if s.Effect == "Deny" {
				return false
			}
			allow = true
		}
	}
	return allow
}

func (s statement) matches(a ask) bool {
	return matchesAny(s.actions, a.action) && matchesAny(s.resources, a.resource) &&
		!slices.ContainsFunc(s.conditions, func(c condition) bool { return !c.holds(a.values(c.key)) })
}

func matchers(patterns []string, compile func(pattern string) matcher) []matcher {
	var all []matcher
	for _, pattern := range patterns {
		all = append(all, compile(pattern))
	}
	return all
}

func matchesAny(any []matcher, value string) bool {
	return slices.ContainsFunc(any, func(m matcher) bool { return m(value) })
}

// values of a condition key; nil when the request does not have it. Names of keys know no case, names of tags do.
func (a ask) values(key string) []string {
	name, tag, _ := strings.Cut(key, "/")
	for have, values := range a.keys {
		haveName, haveTag, _ := strings.Cut(have, "/")
		if strings.EqualFold(name, haveName) && tag == haveTag {
			return values
		}
	}
	return nil
}

// operator of a condition.
type operator struct {
	compare  func(pattern string) matcher
	negated  bool   // holds when no value compares, and when there is none
	set      string // ForAllValues, ForAnyValue or ""
	ifExists bool
	null     bool
}

var comparisons = map[string]func(pattern string) matcher{
	"StringEquals":           func(pattern string) matcher { return func(value string) bool { return pattern == value } },
	"StringEqualsIgnoreCase": foldingCase,
	"StringLike":             like,
	"ArnEquals":              like,
	"ArnLike":                like,
	"Bool":                   foldingCase,
}

func foldingCase(pattern string) matcher {
	return func(value string) bool { return strings.EqualFold(pattern, value) }
}

func operatorOf(name string) (operator, error) {
	o, base := operator{}, name
	if base == "Null" {
		return operator{null: true}, nil
	}
	for _, set := range []string{"ForAllValues", "ForAnyValue"} {
		if rest, ok := strings.CutPrefix(base, set+":"); ok {
			o.set, base = set, rest
		}
	}
	base, o.ifExists = strings.CutSuffix(base, "IfExists")
	if rest, ok := strings.CutPrefix(base, "StringNot"); ok {
		base, o.negated = "String"+rest, true
	}
	if o.compare = comparisons[base]; o.compare == nil {
		return o, malformedPolicy("The sandbox does not simulate the condition operator %s", name)
	}
	return o, nil
}

func (c condition) holds(values []string) bool {
	o := c.operator
	one := func(value string) bool { return o.negated != matchesAny(c.values, value) }
	switch {
	case o.null:
		return c.absent == (len(values) == 0)
	case len(values) == 0:
		return o.ifExists || o.negated || o.set == "ForAllValues"
	case o.set == "ForAnyValue":
		return slices.ContainsFunc(values, one)
	case o.set == "ForAllValues":
		return !slices.ContainsFunc(values, func(value string) bool { return !one(value) })
	}
	return len(values) == 1 && one(values[0])
}

// like matches with IAM's wildcards: * for any characters, ? for one.
func like(pattern string) matcher {
	quoted := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern))
	return regexp.MustCompile("^(?s:" + quoted + ")$").MatchString
}

func likeIgnoringCase(pattern string) matcher {
	lower := like(strings.ToLower(pattern))
	return func(value string) bool { return lower(strings.ToLower(value)) }
}

type rolePolicyInput struct{ RoleName, PolicyName, PolicyDocument *string }

func (c *Cloud) putRolePolicy(in *rolePolicyInput) (*struct{}, error) {
	ro, err := c.roleNamed(in.RoleName)
	if err != nil {
		return nil, err
	}
	if in.PolicyName == nil || in.PolicyDocument == nil {
		return nil, clientError("ValidationError", "policyName and policyDocument are required")
	}
	p, err := parsePolicy(*in.PolicyDocument)
	if err != nil {
		return nil, err
	}
	ro.policies[*in.PolicyName] = p
	return &struct{}{}, nil
}

func (c *Cloud) deleteRolePolicy(in *struct{ RoleName, PolicyName *string }) (*struct{}, error) {
	ro, err := c.roleNamed(in.RoleName)
	if err != nil {
		return nil, err
	}
	name := awssdk.ToString(in.PolicyName)
	if ro.policies[name] == nil {
		return nil, noEntity("The role policy with name %s cannot be found.", name)
	}
	delete(ro.policies, name)
	return &struct{}{}, nil
}

func (c *Cloud) getRolePolicy(in *struct{ RoleName, PolicyName *string }) (*iam.GetRolePolicyOutput, error) {
	ro, err := c.roleNamed(in.RoleName)
	if err != nil {
		return nil, err
	}
	p := ro.policies[awssdk.ToString(in.PolicyName)]
	if p == nil {
		return nil, noEntity("The role policy with name %s cannot be found.", awssdk.ToString(in.PolicyName))
	}
	return &iam.GetRolePolicyOutput{RoleName: in.RoleName, PolicyName: in.PolicyName, PolicyDocument: awssdk.String(url.QueryEscape(p.document))}, nil
}
