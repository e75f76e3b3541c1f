// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

type role struct {
	id, name, arn, path, document string
	created                       time.Time
	policies                      map[string]*policy // inline, by name
}

type instanceProfile struct {
	id, name, arn, path string
	created             time.Time
	role                *role // nil: none
	tags                map[string]string
}

// serveIdentity serves IAM and STS, which share a protocol.
func (c *Cloud) serveIdentity(w http.ResponseWriter, r *http.Request, service string) {
	form, err := readForm(r)
	action := form.Get("Action")
	var out any
	if err == nil {
		operations := map[string]func(url.Values) (any, error){
			"iam/CreateRole":                    identityCall(c.createRole),
			"iam/GetRole":                       identityCall(c.getRole),
			"iam/PutRolePolicy":                 identityCall(c.putRolePolicy),
			"iam/GetRolePolicy":                 identityCall(c.getRolePolicy),
			"iam/DeleteRolePolicy":              identityCall(c.deleteRolePolicy),
			"iam/CreateInstanceProfile":         identityCall(c.createProfile),
			"iam/GetInstanceProfile":            identityCall(c.getProfile),
			"iam/DeleteInstanceProfile":         identityCall(c.deleteProfile),
			"iam/TagInstanceProfile":            identityCall(c.tagProfile),
			"iam/ListInstanceProfiles":          identityCall(c.listProfiles),
			"iam/AddRoleToInstanceProfile":      identityCall(c.addRole),
			"iam/RemoveRoleFromInstanceProfile": identityCall(c.removeRole),
			"sts/GetCallerIdentity":             identityCall(c.callerIdentity(sessionToken(r))),
		}
		if operation, ok := operations[service+"/"+action]; ok {
			c.mu.Lock()
			if err = c.authorizeIdentity(sessionToken(r), service, action, form); err == nil {
				out, err = operation(form)
			}
			c.mu.Unlock()
		} else {
			err = clientError("InvalidAction", "The sandbox does not simulate the action %s of %s", action, service)
		}
	}
	if err != nil {
		writeQueryError(w, err)
		return
	}
	namespace := map[string]string{"iam": "https://iam.amazonaws.com/doc/2010-05-08/", "sts": "https://sts.amazonaws.com/doc/2011-06-15/"}[service]
	var body bytes.Buffer
	fmt.Fprintf(&body, `<%[1]sResponse xmlns="%[2]s"><%[1]sResult>`, action, namespace)
	encodeBody(&body, iamProtocol{}, out)
	fmt.Fprintf(&body, "</%[1]sResult><ResponseMetadata><RequestId>%[2]s</RequestId></ResponseMetadata></%[1]sResponse>", action, w.Header().Get(requestIDHeader))
	w.Header().Set("Content-Type", "text/xml")
	_, _ = w.Write(body.Bytes()) // the caller is gone: nothing to do
}

// identityCall decodes the input, whose structures here hold the parameters that are simulated and no other.
func identityCall[I, O any](handler func(*I) (*O, error)) func(url.Values) (any, error) {
	return func(form url.Values) (any, error) {
		in := new(I)
		if err := decodeForm(iamProtocol{}, form, in); err != nil {
			return nil, err
		}
		out, err := handler(in)
		if err != nil {
			return nil, err
		}
		return out, nil
	}
}

// callerIdentity tells who signed.
func (c *Cloud) callerIdentity(token string) func(*struct{}) (*sts.GetCallerIdentityOutput, error) {
	return func(*struct{}) (*sts.GetCallerIdentityOutput, error) {
		caller, err := c.callerOf(token)
		if err != nil {
			return nil, err
		}
		return &sts.GetCallerIdentityOutput{Account: &c.account, Arn: &caller.arn, UserId: &caller.userID}, nil
	}
}

// noEntity is IAM's error for what does not exist.
func noEntity(format string, args ...any) error {
	return statusError(http.StatusNotFound, "NoSuchEntity", format, args...)
}

func (c *Cloud) iamID(prefix string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	id := prefix
	for range 17 {
		id += string(alphabet[c.random.IntN(len(alphabet))])
	}
	return id
}

// CreateRole makes an IAM role that EC2 may assume. It allows nothing: see PutRolePolicy.
func (c *Cloud) CreateRole(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.roles[name] == nil {
		c.newRole(name, "/", ec2Trust)
	}
}

// ec2Trust is the usual trust policy of a node role.
const ec2Trust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`

func (c *Cloud) newRole(name, path, document string) *role {
	ro := &role{
		id: c.iamID("AROA"), name: name, path: path, document: document, created: time.Now().UTC().Truncate(time.Second),
		arn: "arn:aws:iam::" + c.account + ":role" + path + name, policies: map[string]*policy{},
	}
	c.roles[name] = ro
	return ro
}

type createRoleInput struct {
	RoleName, AssumeRolePolicyDocument, Path, Description *string
	Tags                                                  []iamtypes.Tag
}

func (c *Cloud) createRole(in *createRoleInput) (*iam.CreateRoleOutput, error) {
	name := awssdk.ToString(in.RoleName)
	if name == "" {
		return nil, clientError("ValidationError", "roleName is required")
	}
	if c.roles[name] != nil {
		return nil, statusError(http.StatusConflict, "EntityAlreadyExists", "Role with name %s already exists.", name)
	}
	return &iam.CreateRoleOutput{Role: describeRole(c.newRole(name, pathOr(in.Path), awssdk.ToString(in.AssumeRolePolicyDocument)))}, nil
}

func pathOr(path *string) string {
	if path == nil {
		return "/"
	}
	return *path
}

func (c *Cloud) roleNamed(name *string) (*role, error) {
	if ro := c.roles[awssdk.ToString(name)]; ro != nil {
		return ro, nil
	}
	return nil, noEntity("The role with name %s cannot be found.", awssdk.ToString(name))
}

func (c *Cloud) getRole(in *struct{ RoleName *string }) (*iam.GetRoleOutput, error) {
	ro, err := c.roleNamed(in.RoleName)
	if err != nil {
		return nil, err
	}
	return &iam.GetRoleOutput{Role: describeRole(ro)}, nil
}

func describeRole(ro *role) *iamtypes.Role {
	return &iamtypes.Role{
		RoleName: &ro.name, RoleId: &ro.id, Arn: &ro.arn, Path: &ro.path, CreateDate: &ro.created,
		AssumeRolePolicyDocument: awssdk.String(url.QueryEscape(ro.document)),
	}
}

type createProfileInput struct {
	InstanceProfileName, Path *string
	Tags                      []iamtypes.Tag
}

func (c *Cloud) createProfile(in *createProfileInput) (*iam.CreateInstanceProfileOutput, error) {
	name, path := awssdk.ToString(in.InstanceProfileName), pathOr(in.Path)
	switch {
	case name == "":
		return nil, clientError("ValidationError", "instanceProfileName is required")
	case c.profiles[name] != nil:
		return nil, statusError(http.StatusConflict, "EntityAlreadyExists", "Instance Profile %s already exists.", name)
	case !strings.HasPrefix(path, "/") || !strings.HasSuffix(path, "/"):
		return nil, clientError("ValidationError", "The specified value for path is invalid. It must begin and end with /")
	}
	p := &instanceProfile{
		id: c.iamID("AIPA"), name: name, path: path, created: time.Now().UTC().Truncate(time.Second), tags: iamTags(in.Tags),
		arn: "arn:aws:iam::" + c.account + ":instance-profile" + path + name,
	}
	c.profiles[name] = p
	return &iam.CreateInstanceProfileOutput{InstanceProfile: describeProfile(p)}, nil
}

func iamTags(tags []iamtypes.Tag) map[string]string {
	m := map[string]string{}
	for _, tag := range tags {
		m[awssdk.ToString(tag.Key)] = awssdk.ToString(tag.Value)
	}
	return m
}

func describeProfile(p *instanceProfile) *iamtypes.InstanceProfile {
	d := &iamtypes.InstanceProfile{
		InstanceProfileName: &p.name, InstanceProfileId: &p.id, Arn: &p.arn, Path: &p.path, CreateDate: &p.created, Roles: []iamtypes.Role{},
	}
	if p.role != nil {
		d.Roles = append(d.Roles, *describeRole(p.role))
	}
	for _, key := range sortedKeys(p.tags) {
		d.Tags = append(d.Tags, iamtypes.Tag{Key: awssdk.String(key), Value: awssdk.String(p.tags[key])})
	}
	return d
}

func (c *Cloud) profile(name *string) (*instanceProfile, error) {
	if p := c.profiles[awssdk.ToString(name)]; p != nil {
		return p, nil
	}
	return nil, noEntity("Instance Profile %s cannot be found.", awssdk.ToString(name))
}

type profileInput struct{ InstanceProfileName *string }

func (c *Cloud) getProfile(in *profileInput) (*iam.GetInstanceProfileOutput, error) {
	p, err := c.profile(in.InstanceProfileName)
	if err != nil {
		return nil, err
	}
	return &iam.GetInstanceProfileOutput{InstanceProfile: describeProfile(p)}, nil
}

func (c *Cloud) deleteProfile(in *profileInput) (*struct{}, error) {
	p, err := c.profile(in.InstanceProfileName)
	if err != nil {
		return nil, err
	}
	if p.role != nil {
		return nil, statusError(http.StatusConflict, "DeleteConflict", "Cannot delete entity, must remove roles from instance profile first.")
	}
	delete(c.profiles, p.name)
	return &struct{}{}, nil
}

type tagProfileInput struct {
	InstanceProfileName *string
	Tags                []iamtypes.Tag
}

func (c *Cloud) tagProfile(in *tagProfileInput) (*struct{}, error) {
	p, err := c.profile(in.InstanceProfileName)
	if err != nil {
		return nil, err
	}
	p.tags = merge(p.tags, iamTags(in.Tags))
	return &struct{}{}, nil
}

type listProfilesInput struct {
	PathPrefix, Marker *string
	MaxItems           *int32
}

func (c *Cloud) listProfiles(in *listProfilesInput) (*iam.ListInstanceProfilesOutput, error) {
	names := slices.DeleteFunc(sortedKeys(c.profiles), func(name string) bool {
		return !strings.HasPrefix(c.profiles[name].path, pathOr(in.PathPrefix))
	})
	cut, next, err := page(names, in.Marker, in.MaxItems, 1, 1000)
	if err != nil {
		return nil, err
	}
	out := &iam.ListInstanceProfilesOutput{IsTruncated: next != nil, Marker: next, InstanceProfiles: []iamtypes.InstanceProfile{}}
	for _, name := range cut {
		out.InstanceProfiles = append(out.InstanceProfiles, *describeProfile(c.profiles[name]))
	}
	return out, nil
}

type profileRoleInput struct{ InstanceProfileName, RoleName *string }

func (c *Cloud) addRole(in *profileRoleInput) (*struct{}, error) {
	p, err := c.profile(in.InstanceProfileName)
	if err != nil {
		return nil, err
	}
	ro, err := c.roleNamed(in.RoleName)
	if err != nil {
		return nil, err
	}
	if p.role != nil {
		return nil, statusError(http.StatusConflict, "LimitExceeded", "Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1")
	}
	p.role = ro
	return &struct{}{}, nil
}

func (c *Cloud) removeRole(in *profileRoleInput) (*struct{}, error) {
	p, err := c.profile(in.InstanceProfileName)
	if err != nil {
		return nil, err
	}
	if p.role == nil || p.role.name != awssdk.ToString(in.RoleName) {
		return nil, noEntity("The role with name %s is not in the instance profile %s.", awssdk.ToString(in.RoleName), p.name)
	}
	p.role = nil
	return &struct{}{}, nil
}
